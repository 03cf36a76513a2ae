"""One worker, many providers: all but one misbehave, each in its own way, and then recover."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from redis.asyncio import Redis

from testing.http2_server import certificates
from testing.raw_server import Handler, hang, linger_zero, read_request, says, serving, was_read
from testing.receiver import Receiver
from testing.relay_process import relay
from testing.site import Site

MESSAGES = 6
TROUBLES = 4
"""Failures in a row after which a lane is left in peace for a while, and shows why."""

HEAD = b"HTTP/1.1 500 No\r\n"


@dataclass
class Trouble:
    """A server that misbehaves until `over`; `met` is set once it has done so often enough."""

    port: int = 0
    bad: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    seen: set[int] = field(default_factory=set)

    def count(self) -> None:
        self.bad += 1
        if self.bad >= TROUBLES:
            self.met.set()

    def handler(self, misbehave: Handler) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not self.over:
                self.count()
                await misbehave(reader, writer)
                return
            while True:
                request = await read_request(reader)
                self.seen.add(json.loads(request.partition(b"\r\n\r\n")[2])["n"])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        return handle


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\nshort")
    await was_read(writer)
    linger_zero(writer)


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(HEAD)
    while True:
        writer.write(b"X-A: b\r\n" * 1000)
        await writer.drain()


MISBEHAVIOUR: dict[str, Handler] = {
    "silent": hang,
    "resets": resets,
    "drips": drips,
    "pours": pours,
    "floods": floods,
    "short": says(HEAD + b"Content-Length: 100\r\n\r\nshort"),
    "garbage": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "closes": says(b""),
}


def expired_at_first(trouble: Trouble, folder: Path) -> tuple[ssl.SSLContext, str]:
    """TLS by a certificate that is out of date until the trouble is over; the authorities, in PEM."""
    contexts, authorities = [], ""
    for days in (-1, 1):
        (folder / f"days{days}").mkdir()
        authority, certificate, key = certificates(folder / f"days{days}", days=days)
        authorities += authority.read_text()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        contexts.append(context)
    expired, valid = contexts

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if trouble.over:
            connection.context = valid
        else:
            trouble.count()

    expired.sni_callback = choose
    return expired, authorities


def peak(pid: int) -> int:
    """The most memory that a process ever had, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


async def test_trouble_with_one_provider_is_that_provider_s_alone(site: Site) -> None:
    options: dict[str, Any] = {
        "type": "webhook",
        "timeout": "500ms",
        "retry": {"attempts": 100, "base": "50ms", "max": "300ms"},
        "breaker": {"failures": TROUBLES, "share": 0, "cooldown": "300ms"},
    }
    troubles = {name: Trouble() for name in (*MISBEHAVIOUR, "refuses", "expired")}
    async with AsyncExitStack() as stack:
        for name, misbehave in MISBEHAVIOUR.items():
            trouble = troubles[name]
            trouble.port = await stack.enter_async_context(serving(trouble.handler(misbehave)))
        refuses = stack.enter_context(socket.socket())
        refuses.bind(("127.0.0.1", 0))
        troubles["refuses"].port = refuses.getsockname()[1]
        troubles["refuses"].met.set()  # refused connections cannot be counted
        context, authorities = expired_at_first(troubles["expired"], site.folder)
        answers = troubles["expired"].handler(hang)
        troubles["expired"].port = await stack.enter_async_context(serving(answers, context))
        providers = {
            name: {**options, "url": f"http://127.0.0.1:{trouble.port}/"}
            for name, trouble in troubles.items()
        }
        providers["expired"] |= {"url": f"https://127.0.0.1:{troubles['expired'].port}/", "ca": authorities}
        providers["good"] = {"type": "webhook", "url": site.receiver.url}
        queues = [{"name": "notifications"}]
        config = site.configure(providers, queues)

        running = await stack.enter_async_context(site.installed_worker())
        waits_before = await waits_for(site.redis, site.receiver, range(10))
        before = peak(running.process.pid)
        for number in range(MESSAGES):
            for name in troubles:
                await push(site.redis, name, number)
        waits = await waits_for(site.redis, site.receiver, range(10, 20))
        async with asyncio.timeout(120):
            for trouble in troubles.values():
                await trouble.met.wait()
            await until_all_hold(config, set(troubles))
        for trouble in troubles.values():
            trouble.over = True
        answers = troubles["refuses"].handler(hang)
        await stack.enter_async_context(serving(answers, bound=refuses))
        receipts = await ends(site.redis, len(troubles) * MESSAGES + 20)

        assert median(waits) < 0.5 + 5 * median(waits_before), "others do not wait for its timeouts"
        for name, trouble in troubles.items():
            assert trouble.seen == set(range(MESSAGES)), name
            assert receipts[name] > MESSAGES, "attempts are counted"
        assert receipts["good"] == 20
        assert peak(running.process.pid) - before < 64 * 1024
    lanes = {lane["provider"]: lane for lane in await status(config)}
    for name in troubles:
        assert (lanes[name]["delivered"], lanes[name]["dead"]) == (MESSAGES, 0), name
    said = [line for line in running.lines if line.get("state") == "open"]
    assert {str(line["provider"]) for line in said} == set(troubles)


async def waits_for(redis: Redis, receiver: Receiver, numbers: range) -> list[float]:
    """Seconds that each of some messages takes, one after the other."""
    waits = []
    for number in numbers:
        started = time.monotonic()
        await push(redis, "good", number)
        await receiver.until(number + 1)
        waits.append(time.monotonic() - started)
    return waits


async def push(redis: Redis, name: str, number: int) -> None:
    message = {
        "id": f"{name}-{number}",
        "provider": name,
        "reply_to": "receipts:ends",
        "payload": {"body": {"n": number}},
    }
    await redis.rpush("notifications", json.dumps(message))


async def status(config: Path) -> list[dict[str, Any]]:
    lanes: list[dict[str, Any]] = (await relay("status", "--json", "-c", str(config))).json["lanes"]
    return lanes


async def until_all_hold(config: Path, names: set[str]) -> None:
    """Wait until these lanes hold and show a reason."""
    while {
        lane["provider"] for lane in await status(config) if lane["state"] == "open" and lane["why"]
    } != names:
        pass


async def ends(redis: Redis, number: int) -> dict[str, int]:
    """Wait for this number of receipts, and return the attempts of each provider's message."""
    attempts: dict[str, int] = {}
    async with asyncio.timeout(120):
        for _ in range(number):
            found = await redis.blpop(["receipts:ends"], timeout=120)
            assert found is not None
            receipt = json.loads(found[1])
            assert receipt["outcome"] == "delivered", receipt
            attempts[receipt["provider"]] = attempts.get(receipt["provider"], 0) + receipt["attempts"]
    return attempts
