"""Log in with a token, and log out."""

from __future__ import annotations

from contextlib import suppress
from math import ceil

import structlog
from aiohttp import web

from relay.admin.console.policy import PAGE_HEADERS
from relay.admin.console.rendering import Page
from relay.admin.doorway import VISITOR, Doorway
from relay.admin.gate import Gate, Refusal
from relay.admin.log_outs import LogOuts
from relay.admin.sessions import COOKIE, LIFETIME
from relay.errors import StoreError
from relay.settings.models import Settings

logger = structlog.get_logger()

LONGEST_FORM = 8192
"""Bytes of the form."""


class Login:
    """The log-in form."""

    def __init__(self, settings: Settings, gate: Gate, doorway: Doorway, log_outs: LogOuts) -> None:
        self._admin = settings.admin
        self._gate = gate
        self._doorway = doorway
        self._log_outs = log_outs

    async def form(self, request: web.Request) -> web.Response:
        """Show the form, or go on if the visitor has a session."""
        after = self._next(request.query.get("next", ""))
        if not isinstance(await self._doorway.visitor(request), Refusal):
            raise web.HTTPSeeOther(after)
        return self._answer(after)

    async def enter(self, request: web.Request) -> web.Response:
        """Check the token of the form and start a session."""
        if (request.content_length or 0) > LONGEST_FORM:
            raise web.HTTPRequestEntityTooLarge(LONGEST_FORM, request.content_length or 0)
        fields = await request.post()
        token = fields.get("token", "")
        after = self._next(str(fields.get("next", "")))
        if self._gate.is_open:
            raise web.HTTPSeeOther(after)
        peer = self._gate.peer(request)
        role = self._gate.check(token.strip() if isinstance(token, str) else "", peer)
        if isinstance(role, Refusal):
            wrong = "This token is not known. It is `admin.token` or `admin.viewer_token` of the file."
            answer = self._answer(
                after, wrong if role.status == 401 else f"{role.text[0].upper()}{role.text[1:]}."
            )
            answer.set_status(role.status)
            if role.retry_after:
                answer.headers["Retry-After"] = str(ceil(role.retry_after))
            return answer
        # A log-in in a browser replaces the session that it had, which somebody else may have planted.
        before = self._gate.sessions.find(request.cookies.get(COOKIE, ""))
        if before is not None:
            with suppress(StoreError):
                await self._log_outs.end(before)
        answer = web.Response(status=303, headers={"Location": after})
        answer.set_cookie(
            COOKIE,
            self._gate.sessions.start(role),
            max_age=LIFETIME,
            path=f"{self._admin.base_path}/",
            secure=peer.scheme == "https",
            httponly=True,
            samesite="Strict",
        )
        return answer

    async def leave(self, request: web.Request) -> web.Response:
        """End the session."""
        session = request[VISITOR].session
        if session is not None:
            try:
                await self._log_outs.end(session)
            except StoreError as error:
                logger.warning("a log-out is known to this process only", error=str(error))
        answer = web.Response(status=303, headers={"Location": f"{self._admin.base_path}/login"})
        answer.del_cookie(COOKIE, path=f"{self._admin.base_path}/", httponly=True, samesite="Strict")
        return answer

    def _next(self, path: str) -> str:
        """Return the page to go to: only one of this console."""
        is_own = (
            path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
        )
        return f"{self._admin.base_path}{path if is_own else '/'}"

    def _answer(self, after: str, error: str = "") -> web.Response:
        text = Page(
            "login.html",
            {
                "base": self._admin.base_path,
                "environment": self._admin.environment,
                "after": after.removeprefix(self._admin.base_path),
                "error": error,
            },
        ).text
        return web.Response(text=text, content_type="text/html", headers=PAGE_HEADERS)
