"""The sandbox's servers: all stand-ins that speak HTTP/1.1 on one port, APNs on another."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from relay.sandbox.apns import ApnsStandIn
from relay.sandbox.control import Control
from relay.sandbox.exchange import Answer, Call, StandIn
from relay.sandbox.faults import Ending, Troublemaker
from relay.sandbox.fcm import FcmStandIn
from relay.sandbox.fcm_oauth import OAuthStandIn
from relay.sandbox.http2 import Http2Server
from relay.sandbox.identity import Identity, identify
from relay.sandbox.journal import UNANSWERED, Journal
from relay.sandbox.options import SandboxOptions
from relay.sandbox.pusher import PusherStandIn
from relay.sandbox.reception import Course, Reception
from relay.sandbox.subscriptions import Subscriptions
from relay.sandbox.webhook import WebhookStandIn
from relay.sandbox.webpush import WebPushStandIn

HTTP2 = ("oauth", "fcm")
"""Stand-ins that the HTTP/2 server knows, too, by the first parts of their paths."""

LARGEST = 32 << 20
"""Bytes of a request that are read."""

GRACE = 0.5
"""Seconds that requests at work get when the server stops."""

BACKLOG = 1024
"""Connections that may wait to be accepted."""

_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def stand_ins(options: SandboxOptions, identity: Identity, subscriptions: Subscriptions) -> list[StandIn]:
    """Every stand-in of the HTTP/1.1 server. A further one is named here."""
    return [
        PusherStandIn(options),
        WebhookStandIn(options),
        OAuthStandIn(identity),
        FcmStandIn(identity),
        WebPushStandIn(identity, subscriptions),
    ]


class Sandbox:
    """A server that runs between `start()` and `stop()`, or inside `async with`.

    `on_request` hears each request as one line. Raises ValueError where an option is wrong, UsageError where
    the folder is.
    """

    def __init__(self, options: SandboxOptions, on_request: Callable[[str], None] | None = None) -> None:
        self.options = options
        self.journal = Journal()
        self.troublemaker = Troublemaker(options.faults, options.seed)
        self.url = self.apns_url = ""
        self._identity = identify(options.folder, options.apns_topic)
        self._subscriptions = Subscriptions(self._identity.ca_key)
        self._stand_ins = stand_ins(options, self._identity, self._subscriptions)
        self._apns = ApnsStandIn(options, self._identity)
        self._over_http2 = {
            path.split("/")[1]: each
            for each in self._stand_ins
            if each.name in HTTP2
            for _, path in each.routes
        }
        self._http2 = Http2Server(self._push, BACKLOG)
        self._reception = Reception(self.journal, self.troublemaker, on_request)
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError where that is not possible, as where the port is taken."""
        self._stopping.clear()
        # A client that gives up cancels its handler: a request that hangs would stay forever.
        runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=GRACE
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.host, self.options.port, backlog=BACKLOG).start()
            await self._start_http2(runner.addresses[0][1])
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host = _WILDCARDS.get(self.options.host, self.options.host)
        host = f"[{host}]" if ":" in host else host
        self.url = f"http://{host}:{runner.addresses[0][1]}"
        self.apns_url = f"https://{host}:{self._http2.port}"

    async def _start_http2(self, beside: int) -> None:
        options = self.options
        context = self._identity.context(options.host)
        if options.apns_port is not None:
            await self._http2.start(options.host, options.apns_port, context)
            return
        try:
            await self._http2.start(
                options.host, beside + 1 if options.port and beside < 65535 else 0, context
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            await self._http2.start(options.host, 0, context)

    async def stop(self) -> None:
        """Listen no more and end all requests. The journal stays."""
        self._stopping.set()
        await self._http2.stop()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def providers_yaml(self) -> str:
        """A `providers` block of relay's configuration that leads here, ready to paste."""
        lines = ["providers:"]
        blocks = {each.name: each.settings(self.url) for each in self._stand_ins}
        blocks[self._apns.name] = self._apns.settings(self.apns_url)
        for name, settings in blocks.items():
            if settings:
                lines.append(f"  {name}:")
                # A text in JSON is the same text in YAML, whatever it holds.
                lines += [f"    {key}: {json.dumps(value)}" for key, value in settings.items()]
        return "\n".join(lines) + "\n"

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST)
        names = [*(stand_in.name for stand_in in self._stand_ins), self._apns.name]
        control = Control(
            self.journal,
            self.troublemaker,
            names,
            self._identity.files(),
            self._subscriptions,
            self.providers_yaml,
            self.options.token,
        )
        app.add_routes(control.routes())
        for stand_in in self._stand_ins:
            for method, path in stand_in.routes:
                app.router.add_route(method, path, self._handler(stand_in))
        app.router.add_route("*", "/{path:.*}", self._nothing_here)
        return app

    def _handler(self, stand_in: StandIn) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            call = Call(request.method, request.path, request.query, request.headers, body)
            course = await self._attend(stand_in, call)
            if course.ending is not None:
                return await self._end(request, course.ending)
            return _response(course.answer)

        return handle

    async def _push(self, call: Call) -> Answer | Ending:
        """One request over HTTP/2: APNs', or one of a provider that speaks HTTP/1.1, too."""
        course = await self._attend(self._over_http2.get(call.path.split("/")[1], self._apns), call)
        if course.ending is Ending.HANG:
            await self._stopping.wait()
        return course.ending or course.answer

    async def _attend(self, stand_in: StandIn, call: Call) -> Course:
        """Judge a request, let it wait as ordered, and note it."""
        course = self._reception.receive(stand_in, call)
        status = course.answer.status if course.ending is None else UNANSWERED
        try:
            if course.delay:
                await asyncio.sleep(course.delay)
        except asyncio.CancelledError:
            status = UNANSWERED
            raise
        finally:
            self._reception.note(stand_in.name, call, status, course.messages)
        return course

    async def _end(self, request: web.Request, ending: Ending) -> web.StreamResponse:
        """Give no complete answer: hang until the client or the sandbox ends, or break off."""
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        if ending is Ending.HANG:
            await self._stopping.wait()
        else:
            await response.prepare(request)
            await response.write(b"{")
        if request.transport is not None:
            request.transport.abort()
        return response

    async def _nothing_here(self, request: web.Request) -> web.Response:
        """A wrong URL in somebody's configuration: better seen here than searched for."""
        call = Call(request.method, request.path, request.query, request.headers, b"")
        self._reception.tell("nobody", call, 404, ())
        return web.Response(status=404, text="No stand-in answers here; see / for what came in elsewhere")


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers={"X-Content-Type-Options": "nosniff", **answer.headers},
    )
