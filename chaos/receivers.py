"""The providers: one HTTP server each. It records every arrival, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
from contextlib import suppress

from aiohttp import web

from chaos.configuration import WEBHOOKS
from chaos.evidence import OK, Arrival
from chaos.messages import FAILING_GROUPS, HEALTHY_GROUPS
from testing.ports import free_port

FLOOD_BUFFER = 1 << 20
"""Bytes that may wait for a slow client."""

LONGEST_SLOW = 1.2
"""Maximum duration of a slow answer in seconds, less than the timeout."""


class Receiver:
    """The server of one provider. `mode` is the current fault, `share` the share of affected requests."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.port = free_port()
        self.mode = ""
        self.share = 1.0
        self.repaired = False
        self.arrivals: list[Arrival] = []
        self._rng = rng
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.listen()

    async def listen(self) -> None:
        """Accept connections, also after `refuse`."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()

    async def refuse(self) -> None:
        """Close all connections, and accept none until `listen`."""
        assert self._runner is not None
        assert self._site is not None
        await self._site.stop()
        if self._runner.server is not None:
            for connection in list(self._runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        at = time.time()
        host, target, facts = self._read(request, await request.read())
        message_id = request.headers.get("webhook-id", "")
        provider, group = self._lane(request)
        arrivals = [
            Arrival(fact["n"], provider, host, at, target, message_id=message_id, group=group)
            for fact in facts
        ]
        self.arrivals += arrivals
        answer, response = await self._answer(
            request, max((fact.get("want", 0) for fact in facts), default=0)
        )
        if request.transport is None or request.transport.is_closing():
            answer = answer if answer != OK else "aborted"
        for arrival in arrivals:
            arrival.answer, arrival.ended = answer, time.time()
        return response

    def _lane(self, request: web.Request) -> tuple[str, str]:
        """The provider that sent the request, and the group that it was for."""
        return self.name, ""

    def _read(self, request: web.Request, body: bytes) -> tuple[str, str, list[dict[str, int]]]:
        """Return the worker's host, the target, and the facts in the messages."""
        document = json.loads(body)
        if self.name != "pusher":
            return request.headers.get("X-Host", ""), request.path if self.name == "fan" else "", [document]
        events = document.get("batch", [document])
        return request.path.split("/")[1], "", [json.loads(event["data"]) for event in events]

    async def _answer(self, request: web.Request, want: int) -> tuple[str, web.StreamResponse]:
        mode = self.mode if self._rng.random() < self.share else ""
        match mode:
            case "server errors":
                return "failed", web.Response(status=self._rng.choice((500, 502, 503, 504)))
            case "throttle":
                return "throttled", web.Response(status=429, headers={"Retry-After": "1"})
            case "hang":
                await self._until_gone(request)
                return "hung", web.Response(status=504)
            case "slow answers":
                await asyncio.sleep(self._rng.uniform(0.1, LONGEST_SLOW))  # the fault itself
            case "garbage":
                return "garbage", await self._break(request, b"SMTP ready\r\n\r\n\x00\xff")
            case "endless early hints":
                return "flood", await self._flood(
                    request, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 500
                )
            case "endless headers":
                return "flood", await self._flood(
                    request, b"X-Padding: padding\r\n" * 500, b"HTTP/1.1 500 No\r\n"
                )
            case "dripping answer":
                return "drip", await self._flood(request, b"x", b"HTTP/1.1 500 No\r\nX: ", pause=0.05)
            case "reset":
                partial = b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n{"  # 2xx would be a delivery
                return "reset", await self._break(request, self._rng.choice((b"", partial)))
        if want and not (self.name == "recovering" and self.repaired):
            return ("failed" if want >= 500 else "refused"), web.Response(status=want)
        return OK, web.Response(text="{}")

    async def _until_gone(self, request: web.Request) -> None:
        while self.mode == "hang" and request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.05)  # aiohttp does not notify a handler when its client disconnects

    async def _flood(
        self, request: web.Request, piece: bytes, start: bytes = b"", pause: float = 0.0
    ) -> web.StreamResponse:
        """Write `start`, and then pieces until the client disconnects or the fault ends."""
        transport, mode = request.transport, self.mode
        if transport is not None:
            transport.write(start)
        while self.mode == mode and transport is not None and not transport.is_closing():
            transport.write(piece)
            await asyncio.sleep(pause)  # the interval of a drip, otherwise just yields
            while transport.get_write_buffer_size() > FLOOD_BUFFER and not transport.is_closing():
                await asyncio.sleep(0.01)  # limits our own memory if the client reads slowly
        if transport is not None:
            transport.abort()
        return web.Response()

    async def _break(self, request: web.Request, words: bytes) -> web.StreamResponse:
        """Write bytes that are not a complete answer, and reset the connection."""
        transport = request.transport
        if transport is not None:
            transport.write(words)
            await asyncio.sleep(0.01)  # send the written bytes before the reset
            with suppress(OSError):
                raw = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        return web.Response()


class GroupReceiver(Receiver):
    """The server of one group, for all providers: the path names the provider."""

    def _lane(self, request: web.Request) -> tuple[str, str]:
        return request.path.removeprefix("/"), self.name


class Receivers:
    """All receivers, by provider or group."""

    def __init__(self, seed: int) -> None:
        self.by_name = {
            name: kind(name, random.Random(f"{seed}/{name}"))
            for kind, names in (
                (Receiver, (*WEBHOOKS, "fan", "pusher")),
                (GroupReceiver, (*HEALTHY_GROUPS, *FAILING_GROUPS)),
            )
            for name in names
        }

    @property
    def urls(self) -> dict[str, str]:
        return {name: receiver.url for name, receiver in self.by_name.items()}

    def arrivals(self) -> list[Arrival]:
        return [arrival for receiver in self.by_name.values() for arrival in receiver.arrivals]

    async def start(self) -> None:
        for receiver in self.by_name.values():
            await receiver.start()

    async def close(self) -> None:
        for receiver in self.by_name.values():
            await receiver.close()
