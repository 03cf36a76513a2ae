"""The commands, configurations, messages and samples of the pages, run in the order of each page."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
import yaml

from testing.pages.blocks import ROOT, blocks, pages
from testing.pages.fleet import Document, Fleet, running_fleet
from testing.pages.not_run import reason
from testing.pages.reader import Reader, Story, Walk
from testing.receiver import Answer
from testing.redis_server import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER_TESTS = {
    "README.md": "test_tutorial.py",
    "docs/tutorial.md": "test_tutorial.py",
    "docs/how-to/3-a-m.md": "test_three_a_m.py",
}
"""Pages with a test of their own in this folder."""

SYNOPSES = "docs/reference/commands.md"
"""Its blocks are the forms of the commands, made from the code."""

TOKEN = "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"
UNAVAILABLE = Answer(503, b"closed")
ORDER = {
    "id": "order-17",
    "provider": "pusher",
    "payload": {"channel": "site-1", "event": "paid", "data": {}},
}

PAGES = [page for page in pages() if blocks(page) and page not in {*OTHER_TESTS, SYNOPSES}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with running_fleet(tmp_path_factory.mktemp("pages"), redis_server) as running:
        yield running


# configure.md


async def without_a_file(reader: Reader) -> None:
    reader.fleet.config.unlink()


async def passes_the_check(reader: Reader) -> None:
    checked = await reader.fleet.relay("check")
    assert checked.code == 0, checked
    await reader.fleet.write(reader.fleet.standard())


async def with_a_mistake(reader: Reader) -> None:
    """The page shows the mistake of a rate without a unit."""
    config = reader.fleet.config
    good = config.read_text()
    config.write_text(good.replace("rate: 50/s", "rate: 50"))
    reader.output = (await reader.fleet.relay("check")).err
    config.write_text(good)


# control-a-fleet.md


async def hooks_hold(reader: Reader) -> None:
    fleet = reader.fleet
    hooks = {name: value for name, value in fleet.document["providers"]["hooks"].items() if name != "groups"}
    await fleet.use({"providers": {"hooks": hooks}})
    answer, fleet.receiver.answer = fleet.receiver.answer, lambda request: UNAVAILABLE
    await fleet.push(*({"provider": "hooks", "payload": {"body": {}}} for _ in range(3)))

    async def open_() -> bool:
        shown = (await fleet.relay("status", "--json")).json
        return any(lane["provider"] == "hooks" and lane["state"] == "open" for lane in shown["lanes"])

    try:
        await fleet.until(open_)
    finally:
        fleet.receiver.answer = answer


async def order_17_waits(reader: Reader) -> None:
    await reader.fleet.relay("pause", "pusher")
    await reader.fleet.push(ORDER)

    async def waits() -> bool:
        return bool(await reader.fleet.redis.hlen("relay:{pusher}:bodies"))

    await reader.fleet.until(waits)


async def pusher_goes_on(reader: Reader) -> None:
    await reader.fleet.relay("resume", "pusher")


async def the_worker_has_a_name(reader: Reader) -> None:
    (worker,) = (await reader.fleet.relay("status", "--json")).json["workers"]
    reader.fills["web-1-4711"] = worker["worker"].rpartition("-")[0]


# dead-letters.md


async def letters(reader: Reader) -> None:
    """Three of 503, and order-17 of 413."""
    fleet = reader.fleet
    pusher = {**fleet.document["providers"]["pusher"], "retry": {"attempts": 1}}
    await fleet.use({"providers": {"pusher": pusher}})
    await fleet.fail("pusher", 503, 3)
    await fleet.push(*({"payload": ORDER["payload"]} for _ in range(3)))
    await fleet.until(dead(fleet, 3))
    await fleet.fail("pusher", 413, 1)
    await fleet.push(ORDER)
    await fleet.until(dead(fleet, 4))


async def more_letters(reader: Reader) -> None:
    await reader.fleet.fail("pusher", 413, 1)
    await reader.fleet.push({**ORDER, "id": "order-18"})
    await reader.fleet.until(dead(reader.fleet, 1))


async def an_editor(reader: Reader) -> None:
    reader.fleet.variables["EDITOR"] = "sed -i s/site-1/site-2/"


def dead(fleet: Fleet, number: int) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return await fleet.redis.xlen("relay:{pusher}:dead") == number

    return found


# prepare-redis.md

PREPARE = "docs/how-to/prepare-redis.md"


async def a_user_without_a_right(reader: Reader) -> None:
    """The user of the page's ACL, without the list `hits`, on a Redis that evicts."""
    fleet = reader.fleet
    await fleet.use({"queues": [{"name": name, "provider": "pusher"} for name in ("notifications", "hits")]})
    await fleet.redis.execute_command(*(word for word in rights() if word != "~hits"))
    await fleet.redis.config_set("maxmemory-policy", "allkeys-lru")
    user = fleet.server.url.replace("//", "//relay:PASSWORD@")
    fleet.config.write_text(fleet.config.read_text().replace(fleet.server.url, user))


async def all_rights(reader: Reader) -> None:
    """With the whole ACL, relay works."""
    fleet = reader.fleet
    await fleet.redis.execute_command(*rights())
    await fleet.redis.config_set("maxmemory-policy", "noeviction")
    checked = await fleet.relay("check", "--connect")
    assert checked.code == 0, checked
    await fleet.redis.execute_command("ACL", "DELUSER", "relay")


def rights() -> list[str]:
    acl = next(block.text for block in blocks(PREPARE) if block.text.startswith("ACL SETUSER"))
    return shlex.split(acl.replace("\\\n", " "))


# push-messages.md


async def a_file_of_messages(reader: Reader) -> None:
    message = {"payload": {"channel": "a", "event": "hit", "data": {}}}
    (reader.fleet.folder / "messages.ndjson").write_text(f"{json.dumps(message)}\n")


async def a_receipt(reader: Reader) -> None:
    await reader.fleet.redis.rpush("receipts:shop", "{}")


# upgrade.md


async def the_new_version(reader: Reader) -> None:
    reader.fills["new/bin/relay"] = "relay"


# watch-a-fleet.md


async def order_17_failed_once(reader: Reader) -> None:
    fleet = reader.fleet
    hooks = {**fleet.document["providers"]["hooks"], "retry": {"base": "1h", "max": "1h"}}
    await fleet.use({"providers": {"hooks": hooks}})
    fleet.receiver.answers.append(Answer(503, b"the shop is closed"))
    payload: Document = {"body": {}}
    await fleet.push({"id": "order-17", "provider": "hooks", "group": "api.example.com", "payload": payload})

    async def failed() -> bool:
        return bool((await fleet.relay("find", "order-17", "--json")).json[0]["attempts"])

    await fleet.until(failed)


async def order_17_is_cancelled(reader: Reader) -> None:
    assert (await reader.fleet.relay("cancel", "hooks", "order-17")).code == 0


# write-an-adapter.md

CHAT = "docs/how-to/write-an-adapter.md"


async def the_adapter_is_installed(reader: Reader) -> None:
    """Install the module and the entry points of its package, as pip does."""
    packages = reader.fleet.folder / "packages"
    module, project = (
        next(b.text for b in blocks(CHAT) if b.language == name) for name in ("python", "toml")
    )
    entry_points = tomllib.loads(project)["project"]["entry-points"]
    (packages / "relay_chat.py").write_text(module)
    folder = packages / "relay_chat-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: relay-chat\nVersion: 0.1.0\n")
    (folder / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in found.items())
            for group, found in entry_points.items()
        )
    )


# apns.md


async def a_channel(reader: Reader) -> None:
    """The next commands mean the channel that was created."""
    reader.fills["dHN0LXNyY2gtY2hubA=="] = reader.output.split()[-1]


async def another_channel(reader: Reader) -> None:
    created = await reader.fleet.relay("apns", "channels", "create", "apns")
    reader.fills["dHN0LXNyY2gtY2hubA=="] = created.out.split()[-1]


# pusher.md


async def a_master_key(reader: Reader) -> None:
    pusher = {**reader.fleet.document["providers"]["pusher"], "encryption_master_key": reader.output.strip()}
    await reader.fleet.use({"providers": {"pusher": pusher}})


# examples/socketio


async def its_configuration(reader: Reader) -> None:
    await reader.fleet.use(yaml.safe_load((ROOT / "examples/socketio/relay.yaml").read_text()))


STORIES = {
    PREPARE: Story(
        before={"relay check": a_user_without_a_right},
        after={"relay check": all_rights},
        codes={"relay check": 1},
    ),
    "docs/how-to/migrate.md": Story(providers={"redis.rpush": "hooks"}),
    "docs/how-to/push-messages.md": Story(
        before={"relay push notifications - <": a_file_of_messages, "redis-cli BLPOP": a_receipt}
    ),
    "docs/how-to/upgrade.md": Story(before={"sh": the_new_version}),
    "docs/how-to/watch-a-fleet.md": Story(
        before={"relay find order-17": order_17_failed_once},
        after={"relay find --group": order_17_is_cancelled},
        pictures=("webpush refuses",),  # a terminal of 80 columns: tests/unit/cli/test_status_view.py
    ),
    CHAT: Story(before={"toml": the_adapter_is_installed}),
    "docs/reference/http-api.md": Story(after={"curl": pusher_goes_on}),
    "docs/reference/providers/apns.md": Story(
        after={"relay apns channels create": a_channel, "relay apns channels delete": another_channel}
    ),
    "docs/reference/providers/pusher.md": Story(after={"openssl": a_master_key}),
    "examples/socketio/README.md": Story(before={"redis-cli": its_configuration}),
    "docs/how-to/configure.md": Story(
        before={"relay init": without_a_file, "text": with_a_mistake},
        after={"relay init": passes_the_check},
    ),
    "docs/how-to/control-a-fleet.md": Story(
        before={
            "relay probe": hooks_hold,
            "relay send-next": order_17_waits,
            "relay worker drain": the_worker_has_a_name,
        },
        after={"relay send-next": pusher_goes_on},
        codes={"relay worker dismiss": 2},  # it is alive
    ),
    "docs/how-to/dead-letters.md": Story(
        before={
            "relay dead list --by-reason": letters,
            "relay dead edit": an_editor,
            "relay dead export --since": more_letters,
        },
    ),
}


@pytest.mark.parametrize("page", PAGES)
async def test_the_blocks_of_a_page_work_in_their_order(fleet: Fleet, page: str) -> None:
    reader = Reader(fleet, page)
    walk = Walk(reader, STORIES.get(page, Story()), lambda text: reason(page, text) is not None)
    await walk.follow(page)
    if walk.missing:
        pytest.skip("; ".join(walk.missing))  # the rest of the page has passed


def fields(text: str) -> set[str]:
    """The names in a JSON document, which a page may have shortened with `…`."""
    return set(re.findall(r'"(\w+)":', text))


def document(page: str, start: str) -> str:
    return next(block.text for block in blocks(page) if block.text.startswith(start))


async def test_a_receipt_on_a_page_has_the_fields_of_a_real_one(fleet: Fleet) -> None:
    await fleet.write(fleet.standard())
    message = {"id": "order-17", "provider": "fcm", "payload": {"token": TOKEN, "data": {}}}
    await fleet.deliver(json.dumps(message))  # waits for an access token
    single = await fleet.deliver(json.dumps(message))
    assert fields(document("docs/reference/receipts.md", '{"id"')) == single.keys()
    await fleet.fail("fcm", 404, 1)
    message = {
        "id": "news-7",
        "provider": "fcm",
        "payload": {"targets": [f"{TOKEN}1", f"{TOKEN}2"], "data": {}},
    }
    several = await fleet.deliver(json.dumps(message))
    assert several["outcome"] == "partial"
    assert fields(document("docs/explanation/messages.md", '{"id"')) == fields(json.dumps(several))


async def test_a_health_report_on_the_page_has_the_fields_of_a_real_one(fleet: Fleet) -> None:
    token = "Authorization: Bearer $RELAY_ADMIN_TOKEN"
    report = (await Reader(fleet, SYNOPSES).type(f'curl -H "{token}" http://127.0.0.1:9464/healthz')).out
    failed_reload = {"problem", "others", "at"}
    failing_lane = {"pusher"}
    shown = fields(
        re.sub(r'"failures": \{[^}]*\}', '"failures": {}', document("docs/reference/health.md", "{"))
    )
    assert shown - failed_reload <= fields(report) | failing_lane, fields(report)
