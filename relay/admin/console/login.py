"""Log in with a token, and log out."""

from __future__ import annotations

from math import ceil

from aiohttp import web

from relay.admin.console.call import Services
from relay.admin.console.policy import PAGE_HEADERS
from relay.admin.console.rendering import Page
from relay.admin.doorway import VISITOR
from relay.admin.gate import Gate, Refusal
from relay.admin.sessions import COOKIE, LIFETIME

LONGEST_FORM = 8192
"""Bytes of the form."""


class Login:
    """The log-in form."""

    def __init__(self, services: Services, gate: Gate) -> None:
        self._services = services
        self._gate = gate

    async def form(self, request: web.Request) -> web.Response:
        """Show the form, or go on if the visitor has a session."""
        after = self._next(request.query.get("next", ""))
        if not isinstance(self._gate.admit(request), Refusal):
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
        answer = web.Response(status=303, headers={"Location": after})
        answer.set_cookie(
            COOKIE,
            self._gate.sessions.start(role),
            max_age=LIFETIME,
            path=f"{self._services.base}/",
            secure=peer.scheme == "https",
            httponly=True,
            samesite="Strict",
        )
        return answer

    async def leave(self, request: web.Request) -> web.Response:
        """End the session."""
        session = request[VISITOR].session
        if session is not None:
            self._gate.sessions.end(session)
        answer = web.Response(status=303, headers={"Location": f"{self._services.base}/login"})
        answer.del_cookie(COOKIE, path=f"{self._services.base}/", httponly=True, samesite="Strict")
        return answer

    def _next(self, path: str) -> str:
        """Return the page to go to: only one of this console."""
        is_own = (
            path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
        )
        return f"{self._services.base}{path if is_own else '/'}"

    def _answer(self, after: str, error: str = "") -> web.Response:
        text = Page(
            "login.html",
            {
                "base": self._services.base,
                "environment": self._services.settings.admin.environment,
                "after": after.removeprefix(self._services.base),
                "error": error,
            },
        ).text
        return web.Response(text=text, content_type="text/html", headers=PAGE_HEADERS)
