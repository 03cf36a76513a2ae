"""The sandbox's servers: HTTP/1.1 on one port, HTTP/2 (APNs, FCM) on another."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohttp import web

from relay.errors import UsageError
from relay.extras import install, is_installed
from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.control import Control
from relay.sandbox.exchange import Answer, Call, Emulator
from relay.sandbox.faults import Ending, FaultInjector
from relay.sandbox.fcm import FcmEmulator
from relay.sandbox.fcm_oauth import OAuthEmulator
from relay.sandbox.identity import Identity, identify
from relay.sandbox.options import SandboxOptions
from relay.sandbox.pusher import PusherEmulator
from relay.sandbox.reception import Plan, Reception
from relay.sandbox.request_log import UNANSWERED, RequestLog
from relay.sandbox.subscriptions import Subscriptions
from relay.sandbox.webhook import WebhookEmulator
from relay.sandbox.webpush import WebPushEmulator

if TYPE_CHECKING:
    from relay.sandbox.http2 import Attend, Http2Server

NO_APNS = f"the emulator of APNs needs HTTP/2: {install('sandbox')}"

HTTP2 = ("oauth", "fcm")
"""Emulators that the HTTP/2 server serves as well, by the first part of their paths."""

LARGEST = 32 << 20
"""The largest request, in bytes."""

GRACE = 0.5
"""Seconds that running requests get when the server stops."""

BACKLOG = 1024
"""Connections that may wait to be accepted."""

_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def emulators(options: SandboxOptions, identity: Identity, subscriptions: Subscriptions) -> list[Emulator]:
    """Return every emulator of the HTTP/1.1 server. Name new ones here."""
    return [
        PusherEmulator(options),
        WebhookEmulator(options),
        OAuthEmulator(identity),
        FcmEmulator(identity),
        WebPushEmulator(identity, subscriptions),
    ]


class Sandbox:
    """A server that runs between `start()` and `stop()`, or inside `async with`.

    `on_request` is called with one line for each request, `on_call` with the request itself. Raises
    ValueError if an option is wrong, UsageError if the folder is.
    """

    def __init__(
        self,
        options: SandboxOptions,
        on_request: Callable[[str], None] | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        self.options = options
        self.request_log = RequestLog()
        self.fault_injector = FaultInjector(options.faults, options.seed)
        self.url = self.apns_url = ""
        self.identity = identify(options.folder, options.apns_topic)
        self._on_call = on_call
        self._subscriptions = Subscriptions(self.identity.ca_key)
        self._emulators = emulators(options, self.identity, self._subscriptions)
        self._apns = ApnsEmulator(options, self.identity)
        self._over_http2 = {
            path.split("/")[1]: each
            for each in self._emulators
            if each.name in HTTP2
            for _, path in each.routes
        }
        self._http2 = _http2_server(self._push)
        if self._http2 is None and options.apns_port is not None:
            raise UsageError(f"--apns-port: {NO_APNS}")
        self._reception = Reception(self.request_log, self.fault_injector, on_request)
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Start to listen. Raises OSError if that fails, for example because the port is taken."""
        self._stopping.clear()
        # A client that disconnects cancels its handler; otherwise a request that hangs would stay forever.
        runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=GRACE
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.host, self.options.port, backlog=BACKLOG).start()
            if self._http2 is not None:
                await self._start_http2(self._http2, runner.addresses[0][1])
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host = _WILDCARDS.get(self.options.host, self.options.host)
        host = f"[{host}]" if ":" in host else host
        self.url = f"http://{host}:{runner.addresses[0][1]}"
        if self._http2 is not None:
            self.apns_url = f"https://{host}:{self._http2.port}"

    async def _start_http2(self, server: Http2Server, http_port: int) -> None:
        options = self.options
        context = self.identity.context(options.host)
        if options.apns_port is not None:
            await server.start(options.host, options.apns_port, context)
            return
        try:
            await server.start(
                options.host, http_port + 1 if options.port and http_port < 65535 else 0, context
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            await server.start(options.host, 0, context)

    async def stop(self) -> None:
        """Stop listening and end all requests. The request log stays."""
        self._stopping.set()
        if self._http2 is not None:
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

    @property
    def has_apns(self) -> bool:
        """Whether the extra `sandbox` is installed, which APNs needs."""
        return self._http2 is not None

    def providers_yaml(self) -> str:
        """Return a `providers` block for relay's configuration that points here, ready to paste."""
        lines = ["providers:"]
        blocks = {each.name: each.settings(self.url) for each in self._emulators}
        if self.has_apns:
            blocks[self._apns.name] = self._apns.settings(self.apns_url)
        for name, settings in blocks.items():
            if settings:
                lines.append(f"  {name}:")
                # A JSON string is also a YAML string.
                lines += [f"    {key}: {json.dumps(value)}" for key, value in settings.items()]
        return "\n".join(lines) + "\n"

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST)
        names = [*(emulator.name for emulator in self._emulators), self._apns.name]
        control = Control(
            self.request_log,
            self.fault_injector,
            names,
            self.identity.files(),
            self._subscriptions,
            self.providers_yaml,
            self.options.token,
        )
        app.add_routes(control.routes())
        for emulator in self._emulators:
            for method, path in emulator.routes:
                app.router.add_route(method, path, self._handler(emulator))
        app.router.add_route("*", "/{path:.*}", self._not_found)
        return app

    def _handler(self, emulator: Emulator) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            call = Call(request.method, request.path, request.query, request.headers, body)
            plan = await self._attend(emulator, call)
            if plan.ending is not None:
                return await self._end(request, plan.ending)
            return _response(plan.answer)

        return handle

    async def _push(self, call: Call) -> Answer | Ending:
        """Serve a request over HTTP/2: to APNs, or to an emulator in `HTTP2`."""
        plan = await self._attend(self._over_http2.get(call.path.split("/")[1], self._apns), call)
        if plan.ending is Ending.HANG:
            await self._stopping.wait()
        return plan.ending or plan.answer

    async def _attend(self, emulator: Emulator, call: Call) -> Plan:
        """Check a request, delay it as planned, and log it."""
        if self._on_call is not None:
            self._on_call(call)
        plan = self._reception.receive(emulator, call)
        status = plan.answer.status if plan.ending is None else UNANSWERED
        try:
            if plan.delay:
                await asyncio.sleep(plan.delay)
        except asyncio.CancelledError:
            status = UNANSWERED
            raise
        finally:
            self._reception.log(emulator.name, call, status, plan.messages)
        return plan

    async def _end(self, request: web.Request, ending: Ending) -> web.StreamResponse:
        """End a request without a complete answer: hang until the client or the sandbox ends, or break
        off."""
        # A status of 2xx alone would be a success.
        response = web.StreamResponse(status=500, headers={"Content-Length": "1000"})
        if ending is Ending.HANG:
            await self._stopping.wait()
        else:
            await response.prepare(request)
            await response.write(b"{")
        if request.transport is not None:
            request.transport.abort()
        return response

    async def _not_found(self, request: web.Request) -> web.Response:
        """Refuse a wrong URL, visibly: it is usually a mistake in a configuration."""
        call = Call(request.method, request.path, request.query, request.headers, b"")
        self._reception.notify("unknown", call, 404, ())
        return web.Response(status=404, text="No emulator has this URL; see / for the requests so far")


def _http2_server(attend: Attend) -> Http2Server | None:
    if not is_installed("h2"):
        return None
    from relay.sandbox.http2 import Http2Server

    return Http2Server(attend, BACKLOG)


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers={"X-Content-Type-Options": "nosniff", **answer.headers},
    )
