"""Settings and messages that would open a hole: refused or made harmless by the installed command."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from testing.ports import free_port
from testing.raw_server import keeps_answering, read_request, serving
from testing.receiver import Answer, Received
from testing.relay_process import relay, worker, write_config
from testing.site import Site
from tests.conftest import BINARIES

PASSWORD = "word-of-redis"
LONG = 300_000
"""Characters that a message or a receiver can send."""

LONGEST_LINE = 4096


def message(number: object, **fields: Any) -> str:
    return json.dumps({"id": f"m{number}", "reply_to": "receipts:1", **fields})


async def receipts(site: Site, number: int) -> dict[str, tuple[str, str]]:
    """Wait for this number of receipts, and return the outcome and the reason of each message."""
    found = await site.receipts(number)
    return {receipt["id"]: (receipt["outcome"], receipt["reason"] or "") for receipt in found}


async def test_a_file_with_several_holes_is_refused_at_once_and_sends_no_password(tmp_path: Path) -> None:
    connections = 0

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1

    async with serving(counts) as port:
        config = write_config(
            tmp_path,
            f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_cert_reqs=none",
            {"hook": {"type": "webhook", "url": "http://127.0.0.1:9/"}},
            [{"name": name, "provider": "hook"} for name in ("q", "{q}")],
            admin={"listen": f"0.0.0.0:{free_port()}", "token": "${RELAY_ADMIN_TOKEN}"},
        )
        for words in (["check"], ["check", "--connect"], ["run"]):
            done = await relay(*words, "-c", str(config), RELAY_ADMIN_TOKEN="null")
            problems = [line.partition(": ")[2] for line in done.err.splitlines()]
            assert done.code == 2
            assert len(problems) == 3, done.err
            assert problems[0].startswith(
                "redis.url: ssl_cert_reqs=none: the server's certificate is always verified"
            )
            assert problems[1].startswith('queues[1].name: the queue "{q}" has the same keys in Redis')
            assert problems[2].startswith("admin.token: is a placeholder and no secret")
            assert PASSWORD not in done.err + done.out
    assert connections == 0


async def test_a_secret_that_every_user_can_read_is_warned_of(site: Site, open_folder: Path) -> None:
    hook = site.webhook()
    secret = open_folder / "hook-secret"
    secret.write_text(hook.pop("secret"))
    secret.chmod(0o644)
    config = write_config(open_folder, site.server.url, {"hook": {**hook, "secret_file": "hook-secret"}})
    checked = await relay("check", "-c", str(config), COLUMNS="500")
    assert (checked.code, f"chmod o-r {secret}" in checked.out) == (0, True), checked
    async with worker(config) as running:
        line = await running.says("startup check")
        assert line["finding"].endswith(f"chmod o-r {secret}")
        assert line["level"] == "warning"


async def test_no_message_leaves_its_place_in_a_path_or_a_body_and_no_line_of_the_log_is_long(
    site: Site,
) -> None:
    def answer(request: Received) -> Answer:
        return Answer(400, b"x" * LONG) if "refuse" in request.path else Answer()

    site.receiver.answer = answer
    api = {
        "type": "http",
        "url": f"{site.receiver.url}/rooms/${{payload.p}}/send",
        "body": '{"text": "${payload.text}"}',
    }
    site.configure({"api": api}, log={"level": "debug"})
    quoted = 'he said "no", "admin": "yes'
    await site.push(
        message(1, payload={"p": "../../admin", "text": "x"}),
        message(2, payload={"p": "..", "text": "x"}),
        message(3, payload={"p": "a", "text": quoted}),
        message(4, payload={"p": "refuse", "text": "x"}),
        message(5, payload={"p": "a"}, provider="y" * LONG),
        message(6, payload={"p": "a"}, **{"z" * LONG: 1}),
        message(7, payload={"headers": {"Authorization": "Bearer marker"}, "kind": "order"}, unknown=1),
    )
    async with site.worker() as running:
        found = await receipts(site, 7)
    outcomes = {name: outcome for name, (outcome, _) in sorted(found.items())}
    assert outcomes == {f"m{number}": "rejected" for number in range(1, 8)} | {"m3": "delivered"}
    for name in ("m1", "m2"):
        assert "a message cannot put . or .. into the path" in found[name][1]
    assert {request.path: json.loads(request.body) for request in site.receiver.requests} == {
        "/rooms/a/send": {"text": quoted},
        "/rooms/refuse/send": {"text": "x"},
    }
    assert max(len(json.dumps(line)) for line in running.lines) < LONGEST_LINE
    assert max(len(reason) for _, reason in found.values()) < LONGEST_LINE
    for command in ("list", "show"):
        shown = await site.relay("dead", command, "api", "--json", "--reason", "unknown field")
        assert "order" in shown.out
        assert "marker" not in shown.out


async def test_an_answer_on_an_idle_connection_ends_no_later_message(site: Site) -> None:
    """A forged 410 would end a subscription that exists."""
    forged = asyncio.Event()

    async def forges(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        async with asyncio.timeout(120):
            while not await site.redis.exists("receipts:1"):  # relay has read its answer
                await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        forged.set()
        await keeps_answering([])(reader, writer)

    async with serving(forges) as port:
        hook = {"type": "webhook", "url": f"http://127.0.0.1:{port}/hook"}
        async with worker(site.configure({"hook": hook})):
            await site.push(message(1, payload={"body": 1}))
            async with asyncio.timeout(120):
                await forged.wait()
            await site.push(message(2, payload={"body": 2}))
            found = await receipts(site, 2)
    assert {name: outcome for name, (outcome, _) in found.items()} == {"m1": "delivered", "m2": "delivered"}
    assert not await site.redis.exists("relay:feedback")


SERVER = """\
#!/bin/sh
if [ "$1" = --version ]; then
  echo "Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0"
else
  touch {started}
  exec {binary} "$@"
fi
"""


async def test_an_embedded_redis_runs_the_newest_server_and_check_names_it(tmp_path: Path) -> None:
    """A newer one on the PATH is preferred to the one that came with the package, an older one is not."""
    for version in ("6.2.0", "99.1.2"):
        folder = tmp_path / version
        folder.mkdir()
        server = folder / "redis-server"
        text = SERVER.format(version=version, started=folder / "started", binary=BINARIES[max(BINARIES)])
        server.write_text(text)
        server.chmod(0o755)
    config = write_config(
        tmp_path, f"embedded://{tmp_path}/data", {"hook": {"type": "webhook", "url": "http://127.0.0.1:9/"}}
    )
    checked = await relay("check", "-c", str(config), PATH=str(tmp_path / "6.2.0"), COLUMNS="500")
    assert "ok embedded: Redis" in checked.out
    assert "6.2.0" not in checked.out
    path = os.pathsep.join((str(tmp_path / "99.1.2"), os.environ["PATH"]))
    checked = await relay("check", "--connect", "-c", str(config), PATH=path, COLUMNS="500")
    assert f"ok embedded: Redis 99.1.2 ({tmp_path / '99.1.2' / 'redis-server'})" in checked.out
    assert (tmp_path / "99.1.2" / "started").exists()
