"""One system at one work: how fast a backlog goes, how late a message is, what rest costs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from bench.nginx import Arrivals, Nginx
from bench.noting import Noting
from bench.processes import Usage, descendants, usage
from bench.systems import Setting, System
from bench.work import Work, elements, fresh
from testing.redis_server import RedisServer, binaries

START = 60.0
"""Seconds within which the first message must arrive."""
WARM, WARM_SECONDS = 0.2, 1.0
"""The clock starts with this share of a backlog, or so long after the first arrival if that is sooner: until
then connections are opened, code is compiled, and further processes start."""
CHUNK = 1000


class Unfinished(Exception):
    """A system that delivers nothing, or has ended."""


@dataclass(frozen=True, slots=True)
class Backlog:
    messages_per_second: float
    cpu: float
    """Seconds of the system's processes for 100,000 messages."""
    redis_cpu: float
    """Seconds of Redis for 100,000 messages."""
    peak: float
    """MiB of the system's processes."""


@dataclass(frozen=True, slots=True)
class Steady:
    ages: tuple[float, ...]
    """Seconds from the push to the receipt, of all that arrived."""
    lost: int
    """Messages that had not arrived five seconds after the last push."""
    cpu: float
    """Of one core, of the system's processes."""
    redis_cpu: float
    idle_cpu: float
    """Of one core, of the system's processes with nothing to do."""
    idle_redis_cpu: float


class Place:
    """The servers of a run: one Redis without persistence, one nginx."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis_version, binary = max(binaries().items(), key=lambda each: each[0])
        self.server = RedisServer(binary, folder / "redis", "--appendonly", "no").start()
        self.redis = Redis(port=self.server.port)
        self.noting = Noting()
        self.nginx = Nginx(folder / "nginx", self.noting.port)

    def close(self) -> None:
        self.nginx.stop()
        self.noting.stop()
        self.redis.close()
        self.server.stop()

    def _setting(self, url: str, processes: int = 1) -> Setting:
        return Setting(self.server.url, url, self.nginx.ca, self.folder, processes)

    def redis_cpu(self) -> float:
        """Seconds."""
        found = self.redis.info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    def backlog(
        self, system: System, work: Work, messages: int, seconds: float, *, processes: int = 1
    ) -> Backlog:
        """Fill and drain. Raises Unfinished."""
        self.fill(system, work, messages)
        return self.drain(system, work, messages, seconds, processes=processes)

    def fill(self, system: System, work: Work, messages: int) -> None:
        """Put a backlog into a Redis that is empty otherwise."""
        self.redis.flushall()
        producer = system.producer(self.redis, False)
        for start in range(0, messages, CHUNK):
            producer.push(elements(work, start, min(CHUNK, messages - start)))
        producer.close()

    def drain(
        self, system: System, work: Work, messages: int, seconds: float, *, processes: int = 1
    ) -> Backlog:
        """Drain a backlog that lies there when the system starts, to its end or for so long.

        Raises Unfinished.
        """
        arrivals = self.nginx.arrivals()
        url = self.nginx.tls if work.tls else self.nginx.plain
        with self._running(system, work, self._setting(url, processes)) as process:
            watch = _Watch(self, process, arrivals)
            requests = messages // work.per_request
            watch.until(1, START)
            first = watch.until(int(requests * WARM), WARM_SECONDS)
            last = watch.until(requests, seconds)
        arrivals.close()
        done = (last.requests - first.requests) * work.per_request
        if done <= 0 or last.at <= first.at:
            raise Unfinished(f"{last.requests} requests of {requests}, too few or too soon to tell a rate")
        return Backlog(
            done / (last.at - first.at),
            (last.usage.cpu - first.usage.cpu) * 100_000 / done,
            (last.redis_cpu - first.redis_cpu) * 100_000 / done,
            last.usage.peak,
        )

    def steady(self, system: System, work: Work, per_second: int, seconds: float, rest: float) -> Steady:
        """So many messages a second, for so long, after so many seconds of rest. Raises Unfinished."""
        self.redis.flushall()
        self.noting.ages()
        url = self.nginx.front if work.tls else self.noting.url
        with self._running(system, work, self._setting(url)) as process:
            producer = system.producer(self.redis, True)
            producer.push([fresh(work, number) for number in range(200)])
            self._gather(200, START, enough=200)
            idle = _Spent(self, process)
            time.sleep(rest)
            idle_cpu, idle_redis_cpu = idle.shares()
            busy = _Spent(self, process)
            count = int(per_second * seconds)
            begin = time.perf_counter()
            for number in range(count):
                while (left := begin + number / per_second - time.perf_counter()) > 0:
                    time.sleep(left)
                producer.push([fresh(work, number)])
            ages = self._gather(count, 5.0)
            cpu, redis_cpu = busy.shares()
            producer.close()
        return Steady(tuple(ages), count - len(ages), cpu, redis_cpu, idle_cpu, idle_redis_cpu)

    def _gather(self, count: int, seconds: float, enough: int = 0) -> list[float]:
        """The ages of the next so many messages. Raises Unfinished where fewer than `enough` come in time."""
        deadline = time.monotonic() + seconds
        ages: list[float] = []
        while len(ages) < count and time.monotonic() < deadline:
            time.sleep(0.02)
            ages += self.noting.ages()
        if len(ages) < enough:
            raise Unfinished(f"{len(ages)} of {count} messages arrived")
        return ages

    @contextmanager
    def _running(self, system: System, work: Work, setting: Setting) -> Iterator[subprocess.Popen[bytes]]:
        process = system.start(work, setting)
        try:
            yield process
        finally:
            _stop(process)


@dataclass(frozen=True, slots=True)
class _Look:
    requests: int
    at: float
    """When the last of them arrived."""
    usage: Usage
    redis_cpu: float


class _Watch:
    """Looks at what has arrived, and at what it cost."""

    def __init__(self, place: Place, process: subprocess.Popen[bytes], arrivals: Arrivals) -> None:
        self._place = place
        self._process = process
        self._arrivals = arrivals
        self._requests = 0
        self._at = 0.0

    def until(self, requests: int, seconds: float) -> _Look:
        """Once so many have arrived, or after so many seconds."""
        deadline = time.monotonic() + seconds
        while self._requests < requests and time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = (self._place.folder / "said.log").read_text()[-500:]
                raise Unfinished(f"it ended with status {self._process.returncode}: {said}")
            time.sleep(0.01)
            new = self._arrivals.read()
            self._requests += len(new)
            self._at = new[-1] if new else self._at
        return _Look(self._requests, self._at, usage(self._process.pid), self._place.redis_cpu())


class _Spent:
    """CPU since this was made."""

    def __init__(self, place: Place, process: subprocess.Popen[bytes]) -> None:
        self._place, self._process = place, process
        self._at, self._cpu, self._redis = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), usage(self._process.pid).cpu, self._place.redis_cpu()

    def shares(self) -> tuple[float, float]:
        """Of one core: the process with all below it, and Redis."""
        at, cpu, redis = self._now()
        return (cpu - self._cpu) / (at - self._at), (redis - self._redis) / (at - self._at)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; five seconds later, end it and all below it."""
    below = descendants(process.pid)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
