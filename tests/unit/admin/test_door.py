"""The access to the admin server: connections, names of hosts, and time limits."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from relay.admin.health import Health, WorkerReport
from relay.admin.host import Host
from relay.admin.server import Admin
from relay.engine.configured_intake import ConfiguredIntake
from relay.errors import StoreError
from relay.settings.models import AdminSettings, QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.settings.values import Secret
from relay.store.deployment import Deployment
from testing.ports import free_port

TOKEN = "open-sésame"


HEALTHY = Host(Deployment(), [WorkerReport(pid=1, age=0.0, health=Health(worker="w", pid=1, settings=""))])


async def no_redis() -> NoReturn:
    raise StoreError("no Redis here")


Opener = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def opened() -> Opener:
    @asynccontextmanager
    async def opening(token: str | None = None, idle_timeout: float = 10.0) -> AsyncIterator[int]:
        port = free_port()
        settings = Settings(
            queues=[QueueSettings(name="q")],
            providers={"hook": ProviderOptions(type="webhook")},
            admin=AdminSettings(listen=f"127.0.0.1:{port}", token=None if token is None else Secret(token)),
        )
        serving = asyncio.create_task(
            Admin(
                settings,
                no_redis,
                lambda: HEALTHY,
                partial(ConfiguredIntake, settings=settings),
                idle_timeout=idle_timeout,
            ).run()
        )
        await until_open(port)
        try:
            yield port
        finally:
            serving.cancel()
            await asyncio.wait({serving})

    return opening


async def until_open(port: int) -> None:
    async with asyncio.timeout(120):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.01)


async def ask(port: int, *lines: bytes, method: bytes = b"GET", path: bytes = b"/healthz") -> str:
    """The whole response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (method + b" " + path + b" HTTP/1.1", *lines, b"Connection: close")
    writer.write(b"\r\n".join(request) + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.decode()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:94", "127.0.0.1:80", "[::1]:9464", "[::1]", "127.8.8.8:80"]
)
async def test_an_interface_without_a_token_answers_to_the_names_of_this_host(
    opened: Opener, host: str
) -> None:
    async with opened() as port:
        assert (await ask(port, b"Host: " + host.encode())).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.nip.io:80", "", "10.0.0.1"],
)
async def test_a_name_that_was_bound_to_this_host_by_others_gets_nothing(opened: Opener, host: str) -> None:
    async with opened() as port:
        answer = await ask(port, b"Host: " + host.encode())
    assert answer.startswith(("HTTP/1.1 421 ", "HTTP/1.1 400 "))
    assert "healthy" not in answer


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"Authorization: Bearer wrong",
        b"Authorization: Bearer ",
        b"Authorization: Bearer \xff\xfe",
        b"Authorization: Basic " + TOKEN.encode(),
        b"Authorization: " + TOKEN.encode(),
        b"Authorization: Bearer " + TOKEN.encode() + b"x",
        b"Authorization: Bearer " + TOKEN.encode()[:-1],
    ],
)
async def test_a_token_that_is_wrong_opens_nothing(opened: Opener, given: bytes) -> None:
    async with opened(TOKEN) as port:
        answer = await ask(port, b"Host: relay.example", *([given] if given else []))
    assert answer.startswith("HTTP/1.1 401 ")
    assert "healthy" not in answer


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer"])
async def test_the_token_opens_it_by_any_name(opened: Opener, scheme: bytes) -> None:
    async with opened(TOKEN) as port:
        given = b"Authorization: " + scheme + b" " + TOKEN.encode()
        assert (await ask(port, b"Host: relay.example", given)).startswith("HTTP/1.1 200 ")


async def test_a_page_of_another_origin_can_neither_read_nor_change_anything(opened: Opener) -> None:
    """No CORS header lets it read; no method but GET exists, so that there is nothing to forge."""
    async with opened() as port:
        answer = await ask(port, b"Host: localhost", b"Origin: https://evil.example")
        assert "access-control" not in answer.lower()
        assert "set-cookie" not in answer.lower()
        assert "X-Content-Type-Options: nosniff" in answer
        assert "frame-ancestors 'none'" in answer
        for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"):
            refused = await ask(port, b"Host: localhost", b"Content-Length: 0", method=method)
            assert refused.startswith("HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /healthz HTTP/1.1\r\nHost: loc", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ids=["says nothing", "drips", "stays"],
)
async def test_a_slow_client_is_disconnected(opened: Opener, begun: bytes) -> None:
    async with opened(idle_timeout=0.1) as port:
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)

        async def drip() -> None:
            while begun[-9:] == b"Host: loc":
                writer.write(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        try:
            async with asyncio.timeout(120):
                await reader.read()
        except ConnectionError:
            pass
        finally:
            dripping.cancel()
            writer.close()
        assert time.monotonic() - started < 120


async def test_a_flood_of_headers_is_refused(opened: Opener) -> None:
    async with opened() as port:
        answer = await ask(port, b"Host: localhost", b"X: " + b"y" * 100_000)
    assert answer.split()[1] == "400"


async def test_a_flood_of_silent_connections_costs_a_few_descriptors_and_no_answer(opened: Opener) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with opened() as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        assert (await ask(port, b"Host: localhost")).startswith("HTTP/1.1 200 ")
        # Each end of ours takes one, and the server's ends 64 at most.
        assert len(list(Path("/proc/self/fd").iterdir())) - before < 200 + 64 + 10
        for _, writer in silent:
            writer.close()


async def test_a_taken_port_is_served_once_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, capture_logs() as logged:
        port = other.getsockname()[1]
        settings = Settings(
            queues=[QueueSettings(name="q")],
            providers={"hook": ProviderOptions(type="webhook")},
            admin=AdminSettings(listen=f"127.0.0.1:{port}"),
        )
        admin = Admin(
            settings, no_redis, lambda: HEALTHY, partial(ConfiguredIntake, settings=settings), retry=0.05
        )
        serving = asyncio.create_task(admin.run())
        try:
            async with asyncio.timeout(120):
                while not logged:
                    await asyncio.sleep(0.02)
                other.close()
                while len(logged) == 1:
                    await asyncio.sleep(0.02)
            await until_open(port)
            assert (await ask(port, b"Host: localhost")).startswith("HTTP/1.1 200 ")
        finally:
            serving.cancel()
            await asyncio.wait({serving})
    assert [line["log_level"] for line in logged] == ["warning", "info"]


async def test_metrics_without_redis_are_an_error_and_not_the_end(opened: Opener) -> None:
    async with opened() as port:
        assert "503" in await ask(port, b"Host: localhost", path=b"/metrics/fleet")
        assert (await ask(port, b"Host: localhost")).startswith("HTTP/1.1 200 ")
