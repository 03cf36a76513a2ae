"""The middleware of the admin port: admits requests, and answers those that the gate refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil
from urllib.parse import quote

from aiohttp import web

from relay.admin.gate import (
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    NOBODY,
    READS,
    Gate,
    Refusal,
    Visitor,
    comes_from_here,
    refuse_change,
)
from relay.admin.log_outs import LogOuts
from relay.errors import StoreError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VISITOR: web.RequestKey[Visitor] = web.RequestKey("visitor", Visitor)
"""The visitor that the gate has admitted."""

_PROGRAMS = ("/api/", "/healthz", "/metrics")
"""Paths that programs request: they get a status instead of the log-in form."""


class Doorway:
    """Admits requests to the handlers of one admin port."""

    def __init__(self, gate: Gate, log_outs: LogOuts, base: str) -> None:
        self._gate = gate
        self._log_outs = log_outs
        self._base = base

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Call the handler if the request is admitted."""
        path = self._path(request)
        if path == "/login" or path.startswith("/static/"):
            return await self._public(request, handler)
        visitor = await self.visitor(request)
        if isinstance(visitor, Refusal):
            if visitor.status == 401 and request.method in READS and not path.startswith(_PROGRAMS):
                asked = "" if path == "/" else f"?next={quote(request.path_qs.removeprefix(self._base))}"
                raise web.HTTPSeeOther(f"{self._base}/login{asked}")
            return answer(visitor, path)
        if request.method not in READS and request.match_info.http_exception is None:
            refused = refuse_change(request, visitor)
            if refused is not None and (refused is FOREIGN_ORIGIN or path != "/logout"):
                return answer(refused, path)
            if path != "/logout" and (uncertain := await self._uncertain(visitor)) is not None:
                return answer(uncertain, path)
        request[VISITOR] = visitor
        try:
            return await handler(request)
        except web.HTTPClientError as error:
            if not path.startswith("/api/"):
                raise
            allowed = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
            text = {"error": f"{request.method} {path}: {error.reason.lower()}"}
            return web.json_response(text, status=error.status, headers=allowed)

    async def visitor(self, request: web.Request) -> Visitor | Refusal:
        """Return the visitor who makes a request, or the reason why nobody known does."""
        visitor = self._gate.admit(request)
        if isinstance(visitor, Refusal) or visitor.session is None:
            return visitor
        return NOBODY if await self._log_outs.is_known_to_have_ended(visitor.session) else visitor

    async def _uncertain(self, visitor: Visitor) -> Refusal | None:
        """Return the reason why a visitor may not act: the session was ended, or Redis does not say."""
        if visitor.session is None:
            return None
        try:
            return NOBODY if await self._log_outs.has_ended(visitor.session) else None
        except StoreError as error:
            return Refusal(503, str(error))

    async def _public(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Call a handler that everybody may use, from pages of this server and by its own names."""
        peer = self._gate.peer(request)
        if self._gate.is_open and isinstance(self._gate.admit(request), Refusal):
            return answer(FOREIGN_HOST, request.path)
        if request.method not in READS and not comes_from_here(request, peer, program=True):
            return answer(FOREIGN_ORIGIN, request.path)
        return await handler(request)

    def _path(self, request: web.Request) -> str:
        path = request.path
        return path.removeprefix(self._base) if path.startswith(f"{self._base}/") else path


def answer(refusal: Refusal, path: str) -> web.Response:
    """Return the answer to a refused request: JSON below `/api/`, otherwise text."""
    headers = {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.retry_after:
        headers["Retry-After"] = str(ceil(refusal.retry_after))
    if "/api/" in path:
        return web.json_response({"error": refusal.text}, status=refusal.status, headers=headers)
    return web.Response(text=f"{refusal.text}\n", status=refusal.status, headers=headers)
