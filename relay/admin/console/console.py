"""The console of one admin port: its routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web

from relay.admin.console import api, assets
from relay.admin.console.cache import Cache
from relay.admin.console.call import Services
from relay.admin.console.dead_export import DeadExport
from relay.admin.console.jobs import Jobs
from relay.admin.console.login import Login
from relay.admin.console.pages import Pages
from relay.admin.console.sampler import Sampler
from relay.admin.console.screens import SCREENS
from relay.admin.gate import Gate
from relay.operations.dead_edit import OpenIntake
from relay.redis_client.client import Client
from relay.settings.digest import digest
from relay.settings.models import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Console:
    """All pages and the API."""

    def __init__(
        self,
        settings: Settings,
        client: Callable[[], Awaitable[Client]],
        gate: Gate,
        open_intake: OpenIntake,
    ) -> None:
        """`client` returns a client for Redis, or raises StoreError."""
        self._services = Services(
            settings,
            client,
            open_intake,
            cache(lambda: digest(settings)),
            Sampler(settings, client),
            Cache(),
            Jobs(),
        )
        self._gate = gate

    def add_routes(self, app: web.Application) -> None:
        """Add all routes, and those below the base path too: a proxy may pass it on or remove it."""
        login = Login(self._services, self._gate)
        pages = Pages(self._services, SCREENS)
        for base in dict.fromkeys(("", self._services.base)):
            add = app.router.add_route
            add("GET", f"{base}/login", login.form)
            add("POST", f"{base}/login", login.enter)
            add("POST", f"{base}/logout", login.leave)
            add("GET", f"{base}/static/{{digest}}/{{name}}", assets.serve)
            if base:
                add("GET", base, pages.home)
            for screen in SCREENS:
                add("GET", base + screen.path, pages.page(screen))
                if screen.every:
                    add("GET", base + screen.path.rstrip("/") + "/live", pages.live(screen))
            for route in api.ROUTES:
                add(route.method, f"{base}/api/v1{route.path}", api.handler(self._services, route))
            add("GET", f"{base}/api/v1/dead/export", DeadExport(self._services).send)
            add("GET", f"{base}/api/v1/openapi.json", api.openapi(self._services))
