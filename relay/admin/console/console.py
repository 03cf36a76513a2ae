"""The console of one admin port: its routes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web
from aiohttp.typedefs import Middleware

from relay.admin.console import api, assets
from relay.admin.console.cache import Cache
from relay.admin.console.call import Services
from relay.admin.console.dead_export import DeadExport
from relay.admin.console.feedback_export import FeedbackExport
from relay.admin.console.jobs import Jobs
from relay.admin.console.login import Login
from relay.admin.console.pages import Pages
from relay.admin.console.rendering import compile_templates
from relay.admin.console.sampler import Sampler, SamplerTuning
from relay.admin.console.screens import SCREENS, overview
from relay.admin.log_outs import LogOuts
from relay.operations.dead_edit import OpenIntake
from relay.redis_client.client import Client
from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.settings.redaction import secrets_in
from relay.store.lane_settings import Published
from relay.text import Redactor


class Console:
    """All pages and the API."""

    def __init__(
        self,
        settings: Settings,
        client: Callable[[], Awaitable[Client]],
        open_intake: OpenIntake,
        log_outs: LogOuts,
        sampling: SamplerTuning,
    ) -> None:
        """`client` returns a client for Redis, or raises StoreError."""
        own = cache(lambda: Published.of(settings))
        self._services = Services(
            settings,
            client,
            open_intake,
            cache(lambda: digest(settings)),
            own,
            Sampler(settings, client, own, sampling),
            Cache(),
            Jobs(),
            Redactor(secrets_in(settings)),
            log_outs,
        )
        self._pages = Pages(self._services, SCREENS)

    @property
    def missing(self) -> Middleware:
        """The middleware that shows unknown pages."""
        return self._pages.missing

    async def load(self) -> None:
        """Load the data of all pages, while requests are already served."""
        await asyncio.to_thread(self._load)

    async def prepare(self) -> None:
        """Do all that the first page would have to wait for. Raises StoreError."""
        await self.load()
        await overview.prepare(self._services)

    def _load(self) -> None:
        compile_templates()
        self._services.own()
        self._services.digest()

    def add_routes(self, app: web.Application, login: Login) -> None:
        """Add all routes, and those below the base path too: a proxy may pass it on or remove it."""
        pages = self._pages
        for base in dict.fromkeys(("", self._services.base)):
            add = app.router.add_route
            add("GET", f"{base}/login", login.form)
            add("POST", f"{base}/login", login.enter)
            add("POST", f"{base}/logout", login.leave)
            add("GET", f"{base}/static/{{digest}}/{{name}}", assets.serve)
            if base:
                add("GET", base, pages.home)
            for screen in SCREENS:
                path = base + _any_name(screen.path)
                add("GET", path, pages.page(screen))
                if screen.every:
                    add("GET", path.rstrip("/") + "/live", pages.live(screen))
            for route in api.ROUTES:
                add(route.method, f"{base}/api/v1{_any_name(route.path)}", api.handler(self._services, route))
            add("GET", f"{base}/api/v1/dead/export", DeadExport(self._services).send)
            add("GET", f"{base}/api/v1/feedback/export", FeedbackExport(self._services).send)
            add("GET", f"{base}/api/v1/openapi.json", api.openapi(self._services))


def _any_name(path: str) -> str:
    """Return a path whose names may have braces, which aiohttp does not match otherwise."""
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)
