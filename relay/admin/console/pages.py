"""Pages, and the server-sent events that keep them live."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import structlog
from aiohttp import web

from relay.admin.console.call import Call, Services
from relay.admin.console.policy import PAGE_HEADERS
from relay.admin.console.rendering import Page
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import NotFound, Screen, Values
from relay.admin.doorway import VISITOR
from relay.errors import RelayError, StoreError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAIN = "<!--main-->"
"""The place of a page at which its content begins. The part before it is the same for all screens, because it
may be sent before anything is known about the content."""

logger = structlog.get_logger()

SESSION_CHECK = 5
"""Samples between two checks whether the session of an open page was ended."""

PATIENCE = 0.01
"""Seconds until the bar of a page is sent although its content is not ready."""


async def _no_values(call: Call, sample: Sample) -> Values:
    return {}


NOWHERE = Screen("nowhere", "/", "trouble.html", _no_values, "Not found", every=0)
"""The screen of an unknown page."""


class Pages:
    """Renders screens."""

    def __init__(self, services: Services, screens: Sequence[Screen]) -> None:
        self._services = services
        self._screens = [screen for screen in screens if screen.label]

    async def home(self, request: web.Request) -> web.Response:
        """Redirect the base path to the overview."""
        raise web.HTTPSeeOther(f"{self._services.base}/")

    def page(self, screen: Screen) -> Handler:
        """Return the handler of a page. If Redis takes long, the bar is sent before the content."""

        async def show(request: web.Request) -> web.StreamResponse:
            call = Call(self._services, request[VISITOR], request)
            rendering = asyncio.create_task(self._rendered(call, screen))
            try:
                await asyncio.wait({rendering}, timeout=PATIENCE)
                if rendering.done():
                    status, text = rendering.result()
                    return web.Response(
                        text=text, status=status, content_type="text/html", headers=PAGE_HEADERS
                    )
                response = web.StreamResponse(
                    headers={**PAGE_HEADERS, "Content-Type": "text/html; charset=utf-8"}
                )
                begun = Page("layout.html", self._common(call, screen, None)).text
                with suppress(ConnectionError):  # the browser is gone
                    await response.prepare(request)
                    await response.write(begun.partition(MAIN)[0].encode())
                    _, text = await rendering
                    await response.write(text.partition(MAIN)[2].encode())
                return response
            finally:
                rendering.cancel()

        return show

    async def _rendered(self, call: Call, screen: Screen) -> tuple[int, str]:
        """Return the status and the text of a page."""
        status, template = 200, screen.template
        try:
            sample = await self._services.sampler.latest()
            values = {**self._common(call, screen, sample), **await screen.values(call, sample)}
        except (NotFound, RelayError) as error:
            status = 503 if isinstance(error, StoreError) else 404
            template = "trouble.html"
            values = {**self._common(call, screen, None), "status": status, "problem": str(error)}
        except Exception:
            logger.exception("a page of the console failed", page=screen.name)
            status, template = 500, "trouble.html"
            problem = "This is a bug of relay; the log of this process has the details."
            values = {**self._common(call, screen, None), "status": status, "problem": problem}
        return status, Page(template, values).text

    @web.middleware
    async def missing(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a browser that asks for an unknown page with a page."""
        try:
            return await handler(request)
        except web.HTTPNotFound:
            if VISITOR not in request or "text/html" not in request.headers.get("Accept", ""):
                raise
        values = self._common(Call(self._services, request[VISITOR], request), NOWHERE, None)
        problem = "The address may have a mistake, or be one of another version."
        text = Page(NOWHERE.template, {**values, "status": 404, "problem": problem}).text
        return web.Response(text=text, status=404, content_type="text/html", headers=PAGE_HEADERS)

    def live(self, screen: Screen) -> Handler:
        """Return the handler of a page's events."""

        async def stream(request: web.Request) -> web.StreamResponse:
            call = Call(self._services, request[VISITOR], request)
            response = web.StreamResponse(
                headers={**PAGE_HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
            )
            await response.prepare(request)
            try:
                async with self._services.sampler.following() as samples:
                    await self._send(response, call, screen, samples)
            except ConnectionError:
                pass  # the browser is gone
            except (NotFound, RelayError):
                pass  # the browser connects again
            return response

        return stream

    async def _send(self, response: web.StreamResponse, call: Call, screen: Screen, samples: Any) -> None:
        """Send each block that has changed, until the session or the connection ends."""
        sent: dict[str, str] = {}
        count = 0
        async for sample in samples:
            session = call.visitor.session
            if session is not None and (
                session.until <= time.time()
                or (
                    count % SESSION_CHECK == 0
                    and await self._services.log_outs.is_known_to_have_ended(session)
                )
            ):
                return
            if count % screen.every == 0:
                values = {**self._common(call, screen, sample), **await screen.values(call, sample)}
                blocks = Page(screen.template, values).blocks
                changed = {name: text for name, text in blocks.items() if sent.get(name) != text}
                sent |= changed
                await response.write(f"data: {json.dumps(changed)}\n\n".encode())
            count += 1

    def _common(self, call: Call, screen: Screen, sample: Sample | None) -> Mapping[str, Any]:
        """Return the variables of the layout."""
        query = urlencode(call.request.query)
        # As the browser wrote it: a name may contain a slash.
        path = call.request.rel_url.raw_path.removeprefix(self._services.base)
        path = path.removesuffix("/live").rstrip("/")
        return {
            "base": self._services.base,
            "environment": self._services.settings.admin.environment,
            "visitor": call.visitor,
            "may_act": call.visitor.may_act,
            "screens": self._screens,
            "screen": screen,
            "heading": screen.label or next(iter(call.request.match_info.values()), "relay"),
            "sample": sample,
            "live_url": f"{self._services.base}{path}/live{query and '?' + query}" if screen.every else "",
        }
