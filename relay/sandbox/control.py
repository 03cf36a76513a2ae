"""The sandbox's own pages: received messages, counters, faults, and the page that shows them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import msgspec
from aiohttp import web
from pydantic import ValidationError

from relay.admin.access import refusal
from relay.sandbox.faults import FaultInjector
from relay.sandbox.options import Faults
from relay.sandbox.page import PAGE, POLICY
from relay.sandbox.request_log import LATEST, RequestLog
from relay.sandbox.subscriptions import Subscriptions, public_key

_LIMIT = 100
"""Messages that are listed by default."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_decode = msgspec.json.Decoder(dict[str, Any]).decode

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Control:
    """The sandbox's own pages. They show messages and private keys, so `relay.admin.access` guards them.

    `GET /`, and below `/_sandbox/`:

    `GET` and `DELETE received`; `GET stats`; `GET` and `POST faults`; `GET relay.yaml`: the block of
    `providers`; `GET files/NAME`: certificates and keys for clients; `GET` or `POST subscriptions?key=…`: a
    subscription of a new browser, for an applicationServerKey or for any; `DELETE subscriptions/NAME`, the
    last part of its endpoint: the user withdraws the permission.
    """

    def __init__(
        self,
        request_log: RequestLog,
        fault_injector: FaultInjector,
        providers: Collection[str],
        files: Mapping[str, bytes],
        subscriptions: Subscriptions,
        providers_yaml: Callable[[], str],
        token: str = "",
    ) -> None:
        self._token = token
        self._request_log, self._fault_injector, self._providers = request_log, fault_injector, providers
        self._files, self._subscriptions, self._providers_yaml = files, subscriptions, providers_yaml

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [web.route(route.method, route.path, self._guarded(route.handler)) for route in self._routes()]

    def _guarded(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            # A browser asks its user for a password, never for a bearer token.
            refused = refusal(request, self._token, "Basic")
            return await handler(request) if refused is None else refused

        return handle

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page),
            web.get("/_sandbox/stats", self._stats),
            web.get("/_sandbox/received", self._received),
            web.delete("/_sandbox/received", self._clear),
            web.get("/_sandbox/faults", self._faults),
            web.post("/_sandbox/faults", self._set_faults),
            web.get("/_sandbox/relay.yaml", self._yaml),
            web.get("/_sandbox/files/{name}", self._file),
            web.get("/_sandbox/subscriptions", self._subscribe),
            web.post("/_sandbox/subscriptions", self._subscribe),
            web.delete("/_sandbox/subscriptions/{name}", self._unsubscribe),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        headers = {**_HEADERS, "Content-Security-Policy": POLICY}
        return web.Response(body=PAGE, content_type="text/html", charset="utf-8", headers=headers)

    async def _stats(self, request: web.Request) -> web.Response:
        return _json(self._request_log.stats())

    async def _received(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit") or str(_LIMIT)
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
            return _wrong("limit: must be a whole number")
        provider = request.query.get("provider") or None
        return _json(self._request_log.latest(provider, min(int(limit), LATEST)))

    async def _clear(self, request: web.Request) -> web.Response:
        self._request_log.clear()
        return _json({})

    async def _faults(self, request: web.Request) -> web.Response:
        return _json(_document(self._fault_injector.faults))

    async def _file(self, request: web.Request) -> web.Response:
        body = self._files.get(request.match_info["name"])
        if body is None:
            return web.Response(
                status=404, text=f"no such file; files: {', '.join(self._files)}", headers=_HEADERS
            )
        return web.Response(body=body, content_type="application/octet-stream", headers=_HEADERS)

    async def _yaml(self, request: web.Request) -> web.Response:
        return web.Response(text=self._providers_yaml(), headers=_HEADERS)

    async def _subscribe(self, request: web.Request) -> web.Response:
        text = request.query.get("key", "")
        try:
            key = public_key(text)[0] if text else None
        except ValueError as error:
            return _wrong(f"key: {error}")
        return _json(self._subscriptions.make(key).document(str(request.url.origin())))

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self._subscriptions.find(name) is None:
            return web.Response(status=404, text="no such subscription", headers=_HEADERS)
        self._subscriptions.end(name)
        return _json({})

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            faults = Faults.model_validate(_decode(await request.read()))
        except ValidationError as error:
            return _wrong(*(f"{_path(each['loc'])}{_why(each['msg'])}" for each in error.errors()))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _wrong(f"the body is not a JSON object: {error}")
        if faults.provider is not None and faults.provider not in self._providers:
            return _wrong(f"provider: must be one of {', '.join(self._providers)}")
        self._fault_injector.replace(faults)
        return _json(_document(faults))


def _document(faults: Faults) -> object:
    """Return only the faults that are set, in a form that can be posted again."""
    return faults.model_dump(mode="json", exclude_unset=True)


def _path(location: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, location))}: " if location else ""


def _why(message: str) -> str:
    return message.removeprefix("Value error, ")


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json", headers=_HEADERS)


def _wrong(*lines: str) -> web.Response:
    return web.Response(status=400, text="\n".join(lines), headers=_HEADERS)
