"""Redis as a provider: refused messages, the data that subscribers and readers get, and the outcomes of
answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from providers._shared.redis_answers import outcome
from providers._shared.redis_payload import Payload
from providers.redis_ import RedisOptions, RedisPublisher
from relay.errors import ConfigError, MessageError, UsageError
from relay.message import Message, parse_bare, parse_envelope
from relay.names import OwnNames
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.provider.redis import Answer, Refused, Replied, Unanswered, forbid_names
from relay.redis_client.pipelines import linked
from relay.settings.load import loads
from relay.settings.models import QueueSettings, Settings
from testing.redis_server import RedisServer
from testing.streams import entries_of

NOW = 1_790_000_000.0


def a_publisher(**fields: Any) -> RedisPublisher:
    return RedisPublisher("bus", RedisOptions(type="redis", **fields), clock=lambda: NOW)


def a_message(payload: Any, **envelope: Any) -> Message:
    """A message whose payload is this object, or exactly these bytes."""
    if isinstance(payload, bytes):
        return parse_bare(payload, "notifications", NOW)
    element = json.dumps({**envelope, "payload": payload}, ensure_ascii=False).encode()
    return parse_envelope(element, "notifications", NOW)[1]


def commands(publisher: RedisPublisher, payload: Any, **envelope: Any) -> Sequence[tuple[Any, ...]]:
    return publisher.transaction(a_message(payload, **envelope)).commands


def refusal(publisher: RedisPublisher, payload: Any) -> str:
    refused = publisher.check(a_message(payload))
    assert refused is not None
    return refused.reason


@asynccontextmanager
async def bound(own: Redis | None, **fields: Any) -> AsyncIterator[RedisPublisher]:
    """A publisher with its connections, as the engine gives them."""
    publisher = a_publisher(**fields)
    provider: Any = publisher  # its options are a kind of its own
    async with linked(provider, own) as link:
        publisher.bind(link)
        yield publisher


@asynccontextmanager
async def listening(redis: Redis, *patterns: str) -> AsyncIterator[PubSub]:
    async with redis.pubsub() as subscriber:
        await subscriber.psubscribe(*patterns)
        for _ in patterns:
            await subscriber.get_message(timeout=120)
        yield subscriber


async def heard(subscriber: PubSub, count: int) -> list[tuple[bytes, bytes]]:
    """Return channel and content of the next messages."""
    found: list[tuple[bytes, bytes]] = []
    async with asyncio.timeout(120):
        while len(found) < count:
            message = await subscriber.get_message(ignore_subscribe_messages=True, timeout=120)
            if message is not None:
                found.append((message["channel"], message["data"]))
    return found


# Transactions


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"channel": "c", "data": "text"}, [("PUBLISH", "c", b"text")]),
        ({"channel": "c", "data": {"n": 1}}, [("PUBLISH", "c", b'{"n": 1}')]),
        ({"channel": "c", "data": None}, [("PUBLISH", "c", b"null")]),
        ({"channel": "c", "hits": 3, "path": "/é"}, [("PUBLISH", "c", '{"hits":3,"path":"/é"}'.encode())]),
        ({"channel": "c"}, [("PUBLISH", "c", b"")]),
        ({"stream": "s", "data": 1}, [("XADD", "s", "*", "id", "m-1", "data", b"1")]),
        (
            {"channel": "c", "stream": "s", "maxlen": 7, "data": "x"},
            [
                ("XADD", "s", "MAXLEN", "~", 7, "*", "id", "m-1", "channel", "c", "data", b"x"),
                ("PUBLISH", "c", b"x"),
            ],
        ),
    ],
)
def test_a_payload_becomes_commands(payload: Any, expected: Any) -> None:
    assert list(commands(a_publisher(), payload, id="m-1")) == expected


def test_json_goes_out_as_the_application_wrote_it() -> None:
    (publish,) = commands(
        a_publisher(), b'{"channel": "c", "data": {"n" :1.10, "big":12345678901234567890123}}'
    )
    assert publish[2] == b'{"n" :1.10, "big":12345678901234567890123}'


def test_the_configuration_supplies_missing_fields_of_a_message() -> None:
    publisher = a_publisher(channel="c", stream="s", maxlen=9)
    append, publish = commands(publisher, b'{"hits":3}')
    assert append[:6] == ("XADD", "s", "MAXLEN", "~", 9, "*")
    assert publish == ("PUBLISH", "c", b'{"hits":3}')
    append, publish = commands(publisher, {"channel": "d", "stream": "t", "maxlen": 1, "data": 0})
    assert (append[1], append[4], publish[1]) == ("t", 1, "d")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"data": 1}, "channel, stream: missing, and the configuration has no default"),
        ({"channel": "", "data": 1}, "channel: is empty"),
        ({"channel": 1}, "channel: must be a string"),
        ({"channel": "c", "stream": ""}, "stream: is empty"),
        ({"channel": "c", "maxlen": 5}, "maxlen: needs a stream, and the message has none"),
        ({"stream": "s", "maxlen": 0}, "maxlen: must be a whole number of at least 1"),
        ({"stream": "s", "maxlen": 2**63}, "maxlen: must be a whole number of at least 1"),
        ({"stream": "s", "maxlen": 2**99}, "maxlen: must be a whole number of at least 1"),
        ({"stream": "s", "maxlen": "5"}, "maxlen: must be a whole number of at least 1"),
        ({"channel": "c", "socketio": 1}, "socketio: must be true or false"),
        ({"channel": "c", "data": 1, "x": 2}, "'x': not a field next to `data`"),
        (
            {"channel": "c", "data": 1, "room": "r"},
            "'room': not a field without `socketio: true` next to `data`",
        ),
    ],
)
def test_an_impossible_publication_is_refused(payload: Any, reason: str) -> None:
    assert refusal(a_publisher(), payload) == reason


OPTIONS = RedisOptions(type="redis")
RELAY_S_OWN = OwnNames("relay", frozenset({"hits", "{tagged}"}))


def a_confined_publisher(**fields: Any) -> RedisPublisher:
    publisher = a_publisher(**fields)
    forbid_names([publisher], RELAY_S_OWN)
    return publisher


@pytest.mark.parametrize("field", ["channel", "stream"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("relay:{live}:outbox", "start with 'relay:' are relay's own"),
        ("relay:wake", "start with 'relay:' are relay's own"),
        ("relay:feedback", "start with 'relay:' are relay's own"),
        ("relay", "start with 'relay:' are relay's own"),
        ("hits", "'hits' is a queue"),
        ("{hits}", "'{hits}' is a queue"),
        ("tagged", "'tagged' is a queue"),
        ("{tagged}", "'{tagged}' is a queue"),
    ],
)
def test_own_names_are_out_of_reach(field: str, name: str, reason: str) -> None:
    refused = refusal(a_confined_publisher(), {field: name, "data": 1})
    assert refused.startswith(f"{field}: ")
    assert reason in refused


def test_a_list_for_receipts_becomes_no_stream_unless_configured() -> None:
    own = Settings(
        queues=[QueueSettings(name="q", reply_to=["receipts:*", "*"])], providers={"p": OPTIONS}
    ).own_names
    default, narrow = a_publisher(), a_publisher(streams=["*", "receipts:log"])
    forbid_names([default, narrow], own)
    assert refusal(default, {"stream": "receipts:1"}) == (
        "stream: 'receipts:1' may be a list for receipts; allow it with the option `streams`"
    )
    assert default.check(a_message({"stream": "other", "channel": "receipts:1"})) is None
    assert narrow.check(a_message({"stream": "receipts:log"})) is None
    assert refusal(narrow, {"stream": "receipts:1"})


@pytest.mark.parametrize("name", ["relayed", "hits:1", "relax:wake", "RELAY:wake", "hit"])
def test_names_that_only_resemble_own_ones_are_free(name: str) -> None:
    assert a_confined_publisher().check(a_message({"channel": name, "stream": name})) is None


def test_own_names_are_out_of_reach_of_a_socketio_message() -> None:
    publisher = a_confined_publisher(socketio=True, event="e")
    forbid_names([publisher], OwnNames("socket.io#/#a"))
    assert "relay's own" in refusal(publisher, {"room": "a:wake"})
    assert publisher.check(a_message({"room": "b:wake"})) is None


CONFINED = {"channels": ["news", "chat:[0-9]*"], "streams": "feed:?", "channel": "own", "stream": "kept"}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"channel": "news", "stream": "feed:1"}, None),
        ({"channel": "chat:7:x"}, None),
        ({}, None),
        ({"channel": "own", "stream": "kept"}, None),
        ({"channel": "News"}, "channel: 'News' matches none of the option `channels`"),
        ({"channel": "chat:x"}, "channel: 'chat:x' matches none of the option `channels`"),
        ({"stream": "feed:12"}, "stream: 'feed:12' matches none of the option `streams`"),
        ({"stream": "a" * 999}, f"stream: {'a' * 60!r} matches none of the option `streams`"),
        (
            {"socketio": True, "event": "e", "room": "r"},
            "channel: 'socket.io#/#r#' matches none of the option `channels`",
        ),
    ],
)
def test_messages_may_name_allowed_channels_only(payload: Any, reason: str | None) -> None:
    refused = a_confined_publisher(**CONFINED).check(a_message({"data": 1, **payload}))
    assert (refused and refused.reason) == reason


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("channel: relay:wake", "keys and channels that start with 'relay:' are relay's own"),
        ("stream: relay:{live}:outbox", "keys and channels that start with 'relay:' are relay's own"),
        ("stream: hits", "'hits' is a queue"),
        ("prefix: relay:sockets", "keys and channels that start with 'relay:' are relay's own"),
    ],
)
def test_the_file_cannot_name_own_names_either(option: str, why: str) -> None:
    text = f"queues: [{{name: hits, provider: live}}]\nproviders:\n  live:\n    type: redis\n    {option}\n"
    with pytest.raises(ConfigError) as caught:
        loads(text, "relay.yaml", {"redis": RedisOptions}, {})
    key, _, name = option.partition(": ")
    assert list(caught.value.problems) == [
        f"relay.yaml:5:{len(key) + 7}: providers.live.{key}: "
        f'"{name}" cannot be used: {why}; choose another name'
    ]
    loads(
        f"redis: {{prefix: other}}\n{text.replace('name: hits', 'name: q')}", "", {"redis": RedisOptions}, {}
    )


def test_a_message_cannot_trim_below_the_least_maxlen() -> None:
    publisher = a_publisher(maxlen=5, min_maxlen=100)
    assert refusal(publisher, {"stream": "s", "maxlen": 99}) == (
        "maxlen: must be at least 100, the option `min_maxlen`"
    )
    assert commands(publisher, {"stream": "s", "maxlen": 100})[0][4] == 100
    assert commands(publisher, {"stream": "s"})[0][4] == 5


OURS = [*Payload.__struct_encode_fields__, "hits"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(OURS), JSON), st.booleans())
def test_any_payload_is_sent_or_refused_with_a_line(payload: Any, socketio: bool) -> None:
    publisher = a_publisher(socketio=socketio, event="hit")
    try:
        message = a_message(payload)
    except MessageError:  # such as a surrogate
        return
    refused = publisher.check(message)
    if refused is None:
        assert all(isinstance(word, str | bytes | int) for c in commands(publisher, payload) for word in c)
    else:
        assert "\n" not in refused.reason


# Socket.IO


def an_event(**fields: Any) -> dict[str, Any]:
    return {"socketio": True, "event": "hit", **fields}


@pytest.mark.parametrize(
    ("fields", "channel", "packet"),
    [
        ({}, "socket.io#/#", {"data": ["hit"]}),
        ({"data": {"n": 1}}, "socket.io#/#", {"data": ["hit", {"n": 1}]}),
        ({"hits": 3}, "socket.io#/#", {"data": ["hit", {"hits": 3}]}),
        ({"args": [1, None, "x"]}, "socket.io#/#", {"data": ["hit", 1, None, "x"]}),
        ({"room": "r"}, "socket.io#/#r#", {"rooms": ["r"]}),
        ({"rooms": ["r", "r"]}, "socket.io#/#r#", {"rooms": ["r"]}),
        ({"rooms": ["r", "s"]}, "socket.io#/#", {"rooms": ["r", "s"]}),
        ({"namespace": "chat"}, "socket.io#/chat#", {"nsp": "/chat"}),
        ({"namespace": "/chat", "room": "r"}, "socket.io#/chat#r#", {"nsp": "/chat", "rooms": ["r"]}),
        ({"except": "q"}, "socket.io#/#", {"except": ["q"]}),
        ({"except": ["q", "q", "p"]}, "socket.io#/#", {"except": ["q", "p"]}),
        ({"flags": {"volatile": True}}, "socket.io#/#", {"flags": {"volatile": True}}),
        (
            {"flags": {"volatile": None}, "room": None, "rooms": None, "namespace": None, "except": None},
            "socket.io#/#",
            {"flags": {}},
        ),
    ],
)
def test_an_event_equals_the_publication_of_the_official_emitter(
    fields: Any, channel: str, packet: Any
) -> None:
    expected = {"data": ["hit"], "nsp": "/", "rooms": [], "flags": {}, "except": []} | packet
    (publish,) = commands(a_publisher(), an_event(**fields))
    uid, body, options = msgspec.msgpack.decode(publish[2])
    assert (publish[0], publish[1], uid) == ("PUBLISH", channel, "emitter")
    assert body == {"type": 2, "data": expected["data"], "nsp": expected["nsp"]}
    assert options == {name: expected[name] for name in ("rooms", "flags", "except")}


def test_the_configuration_makes_events_of_bare_messages() -> None:
    publisher = a_publisher(socketio=True, event="hit", namespace="stats", prefix="app")
    (publish,) = commands(publisher, b'{"room": "site-1", "hits": 3}')
    assert publish[1] == "app#/stats#site-1#"
    assert msgspec.msgpack.decode(publish[2])[1] == {"type": 2, "data": ["hit", {"hits": 3}], "nsp": "/stats"}
    assert commands(publisher, {"socketio": False, "channel": "c", "data": "x"}) == [("PUBLISH", "c", b"x")]


def test_an_event_for_a_stream_too_can_be_replayed() -> None:
    payload = an_event(stream="s", room="r", data={"n": 1.0})
    append, _ = commands(a_publisher(), payload, id="m-1")
    assert append[3:] == (
        *("id", "m-1", "namespace", "/", "rooms", b'["r"]', "event", "hit", "data", b'{"n": 1.0}'),
    )
    append, _ = commands(a_publisher(), an_event(stream="s", args=[1, "x"]), id="m-1")
    assert append[-2:] == ("args", b'[1, "x"]')


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"event": None}, "event: missing, and the option `event` supplies none"),
        ({"event": "disconnect"}, "event: 'disconnect' is a reserved name"),
        ({"event": 1}, "event: must be a string"),
        ({"channel": "c"}, "channel: with socketio, namespace and room determine it"),
        ({"room": "r", "rooms": ["s"]}, "room, rooms: give one of the two"),
        ({"room": 7}, "room: must be a string"),
        ({"room": ""}, "room: is empty"),
        ({"rooms": ["r", 7]}, "rooms: must be a list of strings"),
        ({"except": [7]}, "except: must be a room or a list of rooms, all of them strings"),
        ({"flags": {"local": True}}, "flags: 'local' is not a flag; use volatile or compress"),
        ({"flags": {"volatile": 1}}, "flags: must be an object with volatile or compress, true or false"),
        ({"data": 1, "args": [1]}, "data, args: give one of the two"),
        ({"args": [1], "x": 2}, "'x': not a field next to `data`"),
    ],
)
def test_an_event_that_no_socketio_server_takes_is_refused(fields: Any, reason: str) -> None:
    assert refusal(a_publisher(), an_event(**fields)) == reason


def test_a_number_larger_than_any_float_is_refused() -> None:
    payload = b'{"socketio": true, "event": "hit", "data": 1' + b"0" * 400 + b"}"
    assert refusal(a_publisher(), payload) == "data: holds a number that is too large"


# Outcomes of Redis's answers


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Replied([b"1-0", 2]), Delivered("1-0")),
        (Replied([0]), Delivered()),
        (Unanswered("Connection refused"), Retry("Connection refused")),
        (Refused("LOADING", "LOADING Redis is loading the dataset in memory"), Retry),
        (Refused("READONLY", "READONLY You can't write against a read only replica."), Retry),
        (Refused("CLUSTERDOWN", "CLUSTERDOWN The cluster is down"), Retry),
        (Refused("MASTERDOWN", "MASTERDOWN Link with MASTER is down"), Retry),
        (Refused("TRYAGAIN", "TRYAGAIN Multiple keys request during rehashing of slot"), Retry),
        (Refused("MOVED", "MOVED 1 127.0.0.1:1"), Retry),
        (Refused("BUSY", "BUSY Redis is busy running a script."), Retry),
        (Refused("EXECABORT", "EXECABORT Transaction discarded because of previous errors."), Retry),
        (Refused("ERR", "ERR unknown command 'PUBLISH'"), Retry),
        (Refused("OOM", "OOM command not allowed when used memory > 'maxmemory'."), Throttled),
        (Refused("MISCONF", "MISCONF Redis is configured to save RDB snapshots, but …"), Throttled),
        (Refused("NOREPLICAS", "NOREPLICAS Not enough good replicas to write."), Throttled),
        (Refused("WRONGTYPE", "WRONGTYPE Operation against a key holding the wrong kind of value"), Rejected),
        (Refused("NOAUTH", "NOAUTH Authentication required."), Unauthorised),
        (Refused("WRONGPASS", "WRONGPASS invalid username-password pair or user is disabled."), Unauthorised),
        (Refused("DENIED", "DENIED Redis is running in protected mode because …"), Unauthorised),
        (Refused("NOPERM", "NOPERM this user has no permissions to run the 'publish' command"), Unauthorised),
        (Refused("NOPERM", "NOPERM User app has no permissions to run the 'xadd' command"), Unauthorised),
        (Refused("NOPERM", "NOPERM No permissions to access a channel"), Rejected),
        (
            Refused(
                "NOPERM", "NOPERM this user has no permissions to access one of the keys used as arguments"
            ),
            Rejected,
        ),
    ],
    ids=str,
)
def test_answers_become_outcomes(answer: Answer, expected: Outcome | type[Outcome]) -> None:
    result = outcome(answer)
    if isinstance(expected, type):
        assert isinstance(answer, Refused)
        expects: Any = expected
        assert result == expects(answer.text, body=answer.text.encode())
    else:
        assert result == expected


# With a real Redis

PAGE = (Path(__file__).parents[3] / "docs/reference/providers/redis.md").read_text()
LEAST_RIGHTS = tuple(re.findall(r"ACL SETUSER app on >PASSWORD (.*)", PAGE)[0].split())


async def test_subscribers_and_readers_of_the_stream_get_the_message(redis: Redis) -> None:
    async with bound(redis) as publisher, listening(redis, "*") as subscriber:
        payload = {"channel": "c", "stream": "s", "data": {"n": 1}}
        (result,) = await publisher.deliver([a_message(payload, id="m-1")])
        assert await heard(subscriber, 1) == [(b"c", b'{"n": 1}')]
    ((entry, fields),) = await entries_of(redis, "s")
    assert fields == {b"id": b"m-1", b"channel": b"c", b"data": b'{"n": 1}'}
    assert result == Delivered(entry.decode())


@pytest.mark.parametrize("text", re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
async def test_the_payloads_of_the_page_are_accepted(redis: Redis, text: str) -> None:
    payload = json.loads(text)["payload"]
    targets = payload.pop("targets", [None])
    async with bound(redis, maxlen=10000) as publisher:
        for target in targets:
            message = a_message(payload if target is None else {**payload, "channel": target})
            assert publisher.check(message) is None
            (outcome,) = await publisher.deliver([message])
            assert isinstance(outcome, Delivered)


async def test_a_batch_is_one_pipeline_of_transactions(redis: Redis) -> None:
    messages = [a_message({"channel": f"c{n}", "stream": "s", "data": n}) for n in range(100)]
    async with bound(redis) as publisher, listening(redis, "*") as subscriber:
        await publisher.deliver(messages[:1])
        before = await redis.info("stats")
        results = await publisher.deliver(messages[1:])
        after = await redis.info("stats")
        sent = await heard(subscriber, 100)
    assert [content for _, content in sent] == [str(n).encode() for n in range(100)]
    assert [fields[b"data"] for _, fields in await entries_of(redis, "s")] == [
        str(n).encode() for n in range(100)
    ]
    assert all(isinstance(result, Delivered) for result in results)
    assert after["total_commands_processed"] - before["total_commands_processed"] == 99 * 4 + 1
    assert after["total_connections_received"] == before["total_connections_received"]


async def test_a_stream_is_trimmed_about_there(redis: Redis) -> None:
    messages = [a_message({"stream": "s", "maxlen": 10, "data": n}) for n in range(500)]
    async with bound(redis) as publisher:
        for start in range(0, 500, 100):
            await publisher.deliver(messages[start : start + 100])
    assert 10 <= await redis.xlen("s") <= 300


async def test_a_key_that_is_no_stream_spoils_only_its_own_message(redis: Redis) -> None:
    await redis.set("s", "text")
    messages = [a_message({"stream": stream, "channel": "c", "data": 1}) for stream in ("t", "s", "u")]
    async with bound(redis) as publisher:
        first, second, third = await publisher.deliver(messages)
    assert isinstance(first, Delivered)
    assert isinstance(second, Rejected)
    assert second.reason.startswith("WRONGTYPE Operation against a key")
    assert isinstance(third, Delivered)


async def test_a_full_redis_holds_the_lane_and_publishes_nothing_unstored(redis: Redis) -> None:
    async with bound(redis) as publisher, listening(redis, "*") as subscriber:
        await redis.config_set("maxmemory", 1)
        try:
            (full,) = await publisher.deliver([a_message({"channel": "c", "stream": "s", "data": 1})])
        finally:
            await redis.config_set("maxmemory", 0)
        await publisher.deliver([a_message({"channel": "c", "data": 2})])
        assert await heard(subscriber, 1) == [(b"c", b"2")]
    assert isinstance(full, Throttled)
    assert full.reason.startswith("OOM command not allowed")


async def test_a_replica_is_no_place_to_write(redis: Redis) -> None:
    async with bound(redis) as publisher:
        await redis.replicaof("127.0.0.1", 1)
        try:
            (result,) = await publisher.deliver([a_message({"channel": "c", "stream": "s", "data": 1})])
        finally:
            await redis.replicaof("NO", "ONE")
    assert isinstance(result, Retry)
    assert result.reason.startswith("READONLY")


@pytest.mark.parametrize(
    ("rules", "payload", "kind"),
    [
        (("+@all", "~allowed*", "&*"), {"stream": "other", "data": 1}, Rejected),
        (("+@all", "~*", "resetchannels", "&allowed"), {"channel": "other", "data": 1}, Rejected),
        (("+@all", "-xadd", "~*", "&*"), {"stream": "s", "channel": "c", "data": 1}, Unauthorised),
        (("+@all", "-publish", "~*", "&*"), {"channel": "c", "data": 1}, Unauthorised),
        (LEAST_RIGHTS, {"stream": "news", "channel": "news", "data": 1}, Delivered),
    ],
)
async def test_the_rights_of_the_redis_user_decide_the_outcome(
    redis: Redis, redis_server: RedisServer, rules: tuple[str, ...], payload: Any, kind: type[Outcome]
) -> None:
    await redis.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pass", *rules)
    url = redis_server.url.replace("//", "//app:pass@")
    try:
        async with bound(None, url=url) as publisher:
            (result,) = await publisher.deliver([a_message(payload)])
            if rules == LEAST_RIGHTS:
                await publisher.verify()
    finally:
        await redis.execute_command("ACL", "DELUSER", "app")
    assert isinstance(result, kind)


@pytest.mark.usefixtures("redis")
async def test_a_wrong_password_is_not_the_messages_fault(redis_server: RedisServer) -> None:
    async with bound(None, url=redis_server.url.replace("//", "//app:wrong@")) as publisher:
        (result,) = await publisher.deliver([a_message({"channel": "c", "data": 1})])
        with pytest.raises(UsageError, match="invalid username-password pair"):
            await publisher.verify()
    assert isinstance(result, Unauthorised)


async def test_a_redis_that_went_away_and_came_back_is_found_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    server = RedisServer(redis_server.binary, tmp_path / "redis").start()
    message = a_message({"stream": "s", "data": 1})
    try:
        async with bound(None, url=server.url) as publisher:
            assert isinstance((await publisher.deliver([message]))[0], Delivered)
            server.kill()
            (away,) = await publisher.deliver([message])
            server.start()
            (back,) = await publisher.deliver([message])
    finally:
        server.stop()
    assert isinstance(away, Retry)
    assert isinstance(back, Delivered)


# Options


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"url": "embedded://data"}, "cannot be embedded; leave it out for relay's own Redis"),
        ({"url": "http://x"}, "unknown scheme"),
        ({"event": "connect"}, "reserved name"),
        ({"maxlen": 0}, "greater than or equal to 1"),
        ({"channel": ""}, "at least 1 character"),
    ],
)
def test_options_that_cannot_work_are_refused(fields: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        a_publisher(**fields)


def test_relays_own_redis_has_to_be_there() -> None:
    async def bind() -> None:
        async with bound(None):
            pass

    with pytest.raises(UsageError, match="relay's own Redis cannot be reached"):
        asyncio.run(bind())


async def test_a_greeting_publishes_nothing(redis: Redis) -> None:
    async with bound(redis) as publisher, listening(redis, "*") as subscriber:
        assert await publisher.verify() == "Redis answers; nothing was published"
        await publisher.deliver([a_message({"channel": "c", "data": 1})])
        assert await heard(subscriber, 1) == [(b"c", b"1")]
    assert await redis.keys("*") == []
