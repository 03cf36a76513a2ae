"""The sandbox's server: all stand-ins on one port."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web
from pydantic import ValidationError

from relay.sandbox import pusher, webhook
from relay.sandbox.faults import RequestTrouble, Troublemaker
from relay.sandbox.journal import Journal
from relay.sandbox.options import Faults, SandboxOptions
from relay.sandbox.page import PAGE

LARGEST = 32 << 20
"""Bytes of a request that are read."""


class Sandbox:
    """A running server inside `async with`. `on_request` hears each request as one line."""

    def __init__(
        self, options: SandboxOptions, on_request: Callable[[str], None] = lambda line: None
    ) -> None:
        self.options = options
        self.journal = Journal()
        self.troublemaker = Troublemaker(options.faults, options.seed)
        self.url = ""
        self._on_request = on_request
        self._request_trouble = RequestTrouble()
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.5)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST)
        app.router.add_get("/", self._page)
        app.router.add_get("/_sandbox/stats", self._stats)
        app.router.add_get("/_sandbox/received", self._received)
        app.router.add_delete("/_sandbox/received", self._clear)
        app.router.add_get("/_sandbox/faults", self._faults)
        app.router.add_post("/_sandbox/faults", self._order)
        app.router.add_post("/apps/{app_id}/{call:events|batch_events}", self._pusher)
        app.router.add_get("/apps/{app_id}/channels", self._channels)
        app.router.add_route("*", "/webhook", self._webhook)
        app.router.add_route("*", "/webhook/{path:.*}", self._webhook)
        return app

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError where the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self.options.host, self.options.port).start()
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def providers_yaml(self) -> str:
        """A `providers` block that leads here, ready to paste."""
        options = self.options
        return (
            "providers:\n"
            "  pusher:\n    type: pusher\n"
            f'    app_id: "{options.app_id}"\n    key: {options.key}\n    secret: {options.secret}\n'
            f"    url: {self.url}\n"
            "  webhook:\n    type: webhook\n"
            f"    url: {self.url}/webhook/demo\n    secret: {options.webhook_secret}\n"
        )

    async def _pusher(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        events: list[tuple[str, str, str]] = []
        try:
            self._check_pusher(request, body)
            events = pusher.events_of(request.path, request.headers.get("Content-Type", ""), body)
            answer = await self.troublemaker.trouble(request, "pusher", len(events))
        except pusher.Refused as error:
            answer = web.Response(status=error.status, text=str(error))
        answer = answer or web.json_response({})
        messages = [(channel, name, "", data) for channel, name, data in events]
        self._note("pusher", answer.status, messages or [("", "", "", "")])
        return answer

    async def _channels(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check_pusher(request, b"")
        except pusher.Refused as error:
            return web.Response(status=error.status, text=str(error))
        return web.json_response({"channels": {}})

    def _check_pusher(self, request: web.Request, body: bytes) -> None:
        options = self.options
        if request.match_info["app_id"] != options.app_id:
            raise pusher.Refused(404, f"Could not find app by id {request.match_info['app_id']}")
        pusher.check_signature(
            request.method, request.path, dict(request.query), body, options.key, options.secret
        )

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        message_id = request.headers.get("webhook-id", "")
        answer: web.StreamResponse | None
        if why := webhook.verify(request.headers, body, self.options.webhook_secret):
            answer = web.Response(status=401, text=why)
        else:
            try:
                answer = await self._request_trouble.trouble(request, message_id)
            except ValidationError as error:
                answer = web.Response(status=400, text=f"the query orders nothing that I know: {error}")
            answer = answer or await self.troublemaker.trouble(request, "webhook", 1)
        answer = answer or web.json_response({})
        text = body.decode("utf-8", "replace")
        self._note("webhook", answer.status, [(request.path, request.method, message_id, text)])
        return answer

    def _note(self, provider: str, status: int, messages: list[tuple[str, str, str, str]]) -> None:
        self.journal.note(provider, status, messages)
        target, event, _, body = messages[0]
        more = f" (+{len(messages) - 1} more)" if len(messages) > 1 else ""
        self._on_request(f"{status} {provider} {target} {event} {body[:100]}{more}")

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.journal.stats())

    async def _received(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "100")
        number = min(int(limit), 10_000) if limit.isascii() and limit.isdigit() else 100
        return web.json_response(self.journal.latest(request.query.get("provider"), number))

    async def _clear(self, request: web.Request) -> web.Response:
        self.journal.clear()
        return web.json_response({})

    async def _faults(self, request: web.Request) -> web.Response:
        return web.json_response(text=self.troublemaker.faults.model_dump_json())

    async def _order(self, request: web.Request) -> web.Response:
        try:
            faults = Faults.model_validate(msgspec.json.decode(await request.read()))
        except (ValidationError, msgspec.DecodeError) as error:
            return web.Response(status=400, text=str(error))
        self.troublemaker.order(faults)
        return web.json_response(text=faults.model_dump_json())
