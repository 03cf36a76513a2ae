"""One request to the console, and the parts of the console that answer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from aiohttp import web

from relay.admin.console.cache import Cache
from relay.admin.console.jobs import Jobs
from relay.admin.console.sampler import Sampler
from relay.admin.gate import Visitor
from relay.admin.log_outs import LogOuts
from relay.operations.dead_edit import OpenIntake
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store.lane_settings import Published
from relay.text import Redactor

ResultT = TypeVar("ResultT")
ArgumentsP = ParamSpec("ArgumentsP")


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the console of one admin port."""

    settings: Settings
    client: Callable[[], Awaitable[Client]]
    """Returns a client for Redis, or raises StoreError."""
    open_intake: OpenIntake
    """Returns an intake, which checks messages as a worker does."""
    digest: Callable[[], str]
    """Returns the digest of the settings, which takes long with many lanes."""
    own: Callable[[], Published]
    """Returns the public settings of the file, which takes long too."""
    sampler: Sampler
    cache: Cache
    jobs: Jobs
    redactor: Redactor
    """Hides the secrets of the configuration in foreign text."""
    log_outs: LogOuts

    @property
    def base(self) -> str:
        """The path in front of all URLs."""
        return self.settings.admin.base_path

    def changed(self) -> None:
        """Show the effect of an action immediately."""
        self.cache.clear()
        self.sampler.invalidate()

    @property
    def prefix(self) -> str:
        return self.settings.redis.prefix


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    services: Services
    visitor: Visitor
    request: web.Request

    @property
    def settings(self) -> Settings:
        return self.services.settings

    def part(self, name: str) -> str:
        """Return a part of the path, such as the name of a provider."""
        return self.request.match_info[name]

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the URL."""
        return self.request.query.get(name, default)

    async def act(
        self,
        action: Callable[Concatenate[Client, Settings, ArgumentsP], Awaitable[ResultT]],
        *arguments: ArgumentsP.args,
        **options: ArgumentsP.kwargs,
    ) -> ResultT:
        """Run an action of `relay.operations`. All pages show its effect with their next sample."""
        result = await action(await self.services.client(), self.settings, *arguments, **options)
        self.services.changed()
        return result
