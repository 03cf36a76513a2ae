"""Reads the state of the fleet once a second for all consoles of a process, and only while somebody looks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from relay.admin.console.arrivals import Arrivals
from relay.admin.console.history import History, Hour
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store.findings import Finding
from relay.store.fleet import Fleet
from relay.store.lane_settings import Published
from relay.store.overview import Overview, read_overview
from relay.store.preflight import Permitted, examine_servers


@dataclass(frozen=True, slots=True)
class SamplerTuning:
    """Times in seconds."""

    interval: float = 1.0
    """Between two samples."""
    share: float = 0.04
    """The longest share of the time that is spent with reading: many lanes and a slow Redis are read less
    often. Redis itself needs a fifth of that time, so it spends less than 1% of a core."""
    servers: float = 5.0
    """Between two readings of the state of the Redis servers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the fleet at one time."""

    overview: Overview
    servers: Sequence[Finding]
    """Findings about the Redis servers."""
    latency: float
    """Seconds that Redis took to answer one short command."""
    number: int
    """Counts the samples of this process."""
    hours: Mapping[str, Hour] = field(default_factory=dict)
    """The last hour of the lanes that pages show, by provider."""
    speeds: Mapping[str, float] = field(default_factory=dict)
    """Messages sent per second since the sample before, by provider."""
    arrivals: Mapping[str, float] = field(default_factory=dict)
    """Elements pushed per second, by queue, once they have been watched for some seconds."""
    error: str = ""
    """The reason why Redis could not be read; the numbers are those of the last sample then."""


class Sampler:
    """The samples of one process."""

    def __init__(
        self,
        settings: Settings,
        client: Callable[[], Awaitable[Client]],
        own: Callable[[], Published],
        tuning: SamplerTuning = SamplerTuning(),
    ) -> None:
        """`own` returns the public settings of the file."""
        self._settings = settings
        self._own = own
        self._client = client
        self._tuning = tuning
        self.history = History(settings.redis.prefix)
        self._changed = asyncio.Condition()
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self._sample: Sample | None = None
        self._arrivals = Arrivals()
        self._read_at = -math.inf
        self._changes = 0
        """The number of actions so far."""
        self._pause = tuning.interval
        """The present interval between two samples: longer if Redis is slow."""
        self._servers: Sequence[Finding] = ()
        self._servers_read_at = -math.inf
        self._lock = asyncio.Lock()
        self._soon = asyncio.Event()
        """Set to end the present interval."""

    async def latest(self, max_age: float | None = None) -> Sample:
        """Return a sample that is at most so old. Raises StoreError if Redis cannot be read and never was."""
        longest = max(self._tuning.interval, self._pause) if max_age is None else max_age
        asked = time.monotonic()
        async with self._lock:
            if self._sample is None or self._read_at < asked - longest:
                started, changes = time.monotonic(), self._changes
                self._sample = await self._read()
                now = time.monotonic()
                # A reading that began before an action may be from before it.
                self._read_at = now if changes == self._changes else -math.inf
                spent = now - started
                self._pause = max(self._tuning.interval - spent, spent * (1 / self._tuning.share - 1))
            return self._sample

    async def with_hours(self, sample: Sample, providers: Iterable[str]) -> Sample:
        """Return the sample with the last hour of these lanes, which later samples have too. Raises
        StoreError."""
        names = list(providers)
        self.history.want(names)
        if all(name in sample.hours for name in names):
            return sample
        at = sample.overview.at
        await self.history.refresh(await self._client(), at, lambda _: False)
        return replace(sample, hours=self.history.hours(at))

    def invalidate(self) -> None:
        """Read again immediately, because an action has changed something."""
        self._changes += 1
        self._read_at = -math.inf
        self._soon.set()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[AsyncIterator[Sample]]:
        """Yield an iterator over the samples from now on. The last follower stops the sampler."""
        self._followers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="console sampler")
        try:
            yield self._follow()
        finally:
            self._followers -= 1
            if not self._followers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _follow(self) -> AsyncIterator[Sample]:
        sample: Sample | None = None
        while True:
            async with self._changed:
                while self._sample is None or self._sample is sample:
                    await self._changed.wait()
                sample = self._sample
            yield sample

    async def _run(self) -> None:
        max_age = self._pause  # the page that is followed may have just read a sample
        while True:
            with suppress(StoreError):
                await self.latest(max_age)
            max_age = 0.0
            async with self._changed:
                self._changed.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._soon.wait()
            self._soon.clear()

    async def _read(self) -> Sample:
        last = self._sample
        try:
            client = await self._client()
            started = time.monotonic()
            await Fleet(client, self._settings.redis.prefix).now()
            latency = time.monotonic() - started
            if started - self._servers_read_at >= self._tuning.servers:
                self._servers = await examine_servers(client, Permitted.LEAST_RIGHTS)
                self._servers_read_at = started
            overview = await read_overview(client, self._settings, self._own())
            speeds = _speeds(overview, last.overview) if last else {}
            await self.history.refresh(client, overview.at, lambda name: bool(speeds.get(name, 1.0)))
        except StoreError as error:
            if last is None:
                raise
            return replace(last, number=last.number + 1, error=str(error))
        return Sample(
            overview,
            self._servers,
            latency,
            last.number + 1 if last else 0,
            self.history.hours(overview.at),
            speeds,
            self._arrivals.after(overview),
        )


def _speeds(now: Overview, before: Overview) -> dict[str, float]:
    """Return the attempts that ended, per second, by provider."""
    seconds = now.at - before.at
    earlier = {lane.provider: lane for lane in before.lanes}
    if seconds <= 0:
        return {}
    return {
        lane.provider: max(
            0.0, (lane.totals["delivered"] - earlier[lane.provider].totals["delivered"]) / seconds
        )
        for lane in now.lanes
        if lane.provider in earlier
    }
