"""Long actions that go on while the operator looks: their progress, and a way to stop them.

They are in the memory of this process, because the work itself leaves nothing half done in Redis.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay.errors import RelayError
from relay.operations.dead_work import DeadResult

MOST = 50
"""Jobs that are remembered. Those that run are kept in any case."""


@dataclass(eq=False)
class Job:
    """One action."""

    action: str
    total: int
    """The number of things that matched before it began."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    result: DeadResult = field(default_factory=DeadResult)
    error: str = ""
    is_running: bool = True

    def show(self, result: DeadResult) -> None:
        """Note how far it is."""
        self.result = result


class Jobs:
    """The jobs of this process."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, job: Job, work: Callable[[], Awaitable[DeadResult]]) -> str:
        """Run the work of a job; returns the job's name."""
        name = secrets.token_urlsafe(9)
        self._jobs[name] = job
        finished = [key for key, other in self._jobs.items() if not other.is_running]
        for key in finished[: max(0, len(self._jobs) - MOST)]:
            del self._jobs[key]
        task = asyncio.create_task(self._run(job, work), name=f"console {job.action}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return name

    def find(self, name: str) -> Job | None:
        """Return a job; None if it is unknown or forgotten."""
        return self._jobs.get(name)

    @property
    def running(self) -> str:
        """The name of the newest job that runs; empty if none does."""
        return next((name for name, job in reversed(self._jobs.items()) if job.is_running), "")

    async def _run(self, job: Job, work: Callable[[], Awaitable[DeadResult]]) -> None:
        try:
            job.show(await work())
        except RelayError as error:
            job.error = str(error)
        finally:
            job.is_running = False
