"""Measures one system with one workload: throughput of a backlog, latency, and CPU at rest."""

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

from bench.latency_recorder import LatencyRecorder
from bench.nginx import Arrivals, Nginx
from bench.processes import Usage, descendants, usage
from bench.systems import Setting, System
from bench.workloads import Workload, elements, fresh
from testing.redis_server import RedisServer, binaries

START = 60.0
"""Seconds within which the first message must arrive."""
WARM, WARM_SECONDS = 0.2, 1.0
"""Measuring starts after this share of a backlog, or this long after the first arrival if that is sooner:
before that, connections are opened, code is compiled, and more processes start."""
CHUNK = 1000
"""Deliveries of the messages that are pushed at once."""


class Unfinished(Exception):
    """The system delivers nothing, or has ended."""


@dataclass(frozen=True, slots=True)
class Backlog:
    messages_per_second: float
    cpu: float
    """CPU seconds of the system's processes per 100,000 messages."""
    redis_cpu: float
    """CPU seconds of Redis per 100,000 messages."""
    peak: float
    """Peak MiB of the system's processes."""


@dataclass(frozen=True, slots=True)
class Steady:
    ages: tuple[float, ...]
    """Seconds from push to receipt, for all messages that arrived."""
    lost: int
    """Messages that had not arrived five seconds after the last push."""
    cpu: float
    """Share of one core, for the system's processes."""
    redis_cpu: float
    idle_cpu: float
    """Share of one core, for the idle processes of the system."""
    idle_redis_cpu: float


class Servers:
    """The servers of a run: one Redis without persistence, one nginx, one latency recorder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis_version, binary = max(binaries().items(), key=lambda each: each[0])
        self.redis_server = RedisServer(binary, folder / "redis", "--appendonly", "no").start()
        self.redis = Redis(port=self.redis_server.port)
        self.recorder = LatencyRecorder()
        self.nginx = Nginx(folder / "nginx", self.recorder.port)

    def close(self) -> None:
        self.nginx.stop()
        self.recorder.stop()
        self.redis.close()
        self.redis_server.stop()

    def setting(self, url: str, processes: int = 1) -> Setting:
        return Setting(self.redis_server.url, url, self.nginx.ca, self.folder, processes)

    def redis_cpu(self) -> float:
        """Return the CPU seconds that Redis has used."""
        found = self.redis.info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    def backlog(
        self, system: System, workload: Workload, messages: int, seconds: float, *, processes: int = 1
    ) -> Backlog:
        """Fill a queue with messages for so many deliveries, and drain it. Raises Unfinished."""
        self.fill(system, workload, messages)
        return self.drain(system, workload, messages, seconds, processes=processes)

    def fill(self, system: System, workload: Workload, deliveries: int) -> None:
        """Empty Redis and push a backlog."""
        self.redis.flushall()
        producer = system.producer(self.redis, False)
        messages, chunk = deliveries // workload.targets, max(1, CHUNK // workload.targets)
        for start in range(0, messages, chunk):
            producer.push(elements(workload, start, min(chunk, messages - start)))
        producer.close()

    def drain(
        self, system: System, workload: Workload, messages: int, seconds: float, *, processes: int = 1
    ) -> Backlog:
        """Start the system and let it drain the backlog, completely or for `seconds`. Raises Unfinished."""
        arrivals = self.nginx.arrivals()
        url = self.nginx.tls if workload.tls else self.nginx.plain
        with self.running(system, workload, self.setting(url, processes)) as process:
            watch = _Watch(self, process, arrivals)
            requests = messages // workload.per_request
            watch.until(1, START)
            first = watch.until(int(requests * WARM), WARM_SECONDS)
            last = watch.until(requests, seconds)
        arrivals.close()
        done = (last.requests - first.requests) * workload.per_request
        if done <= 0 or last.at <= first.at:
            raise Unfinished(f"{last.requests} requests of {requests}, too few or too fast to compute a rate")
        return Backlog(
            done / (last.at - first.at),
            (last.usage.cpu - first.usage.cpu) * 100_000 / done,
            (last.redis_cpu - first.redis_cpu) * 100_000 / done,
            last.usage.peak,
        )

    def steady(
        self, system: System, workload: Workload, per_second: int, seconds: float, rest: float
    ) -> Steady:
        """Idle for `rest` seconds, then push at a steady rate for `seconds`. Raises Unfinished."""
        self.redis.flushall()
        self.recorder.ages()
        url = self.nginx.front if workload.tls else self.recorder.url
        with self.running(system, workload, self.setting(url)) as process:
            producer = system.producer(self.redis, True)
            producer.push([fresh(workload, number) for number in range(200)])
            self._gather(200, START, enough=200)
            idle = _CpuMeter(self, process)
            time.sleep(rest)
            idle_cpu, idle_redis_cpu = idle.shares()
            busy = _CpuMeter(self, process)
            count = int(per_second * seconds)
            begin = time.perf_counter()
            for number in range(count):
                while (left := begin + number / per_second - time.perf_counter()) > 0:
                    time.sleep(left)
                producer.push([fresh(workload, number)])
            ages = self._gather(count, 5.0)
            cpu, redis_cpu = busy.shares()
            producer.close()
        return Steady(tuple(ages), count - len(ages), cpu, redis_cpu, idle_cpu, idle_redis_cpu)

    def _gather(self, count: int, seconds: float, enough: int = 0) -> list[float]:
        """Return the ages of the next `count` messages. Raises Unfinished if fewer than `enough` arrive in
        time."""
        deadline = time.monotonic() + seconds
        ages: list[float] = []
        while len(ages) < count and time.monotonic() < deadline:
            time.sleep(0.02)
            ages += self.recorder.ages()
        if len(ages) < enough:
            raise Unfinished(f"{len(ages)} of {count} messages arrived")
        return ages

    @contextmanager
    def running(
        self, system: System, workload: Workload, setting: Setting
    ) -> Iterator[subprocess.Popen[bytes]]:
        process = system.start(workload, setting)
        try:
            yield process
        finally:
            _stop(process)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    requests: int
    at: float
    """The time of the last request."""
    usage: Usage
    redis_cpu: float


class _Watch:
    """Counts arrivals and resources of a running system."""

    def __init__(self, servers: Servers, process: subprocess.Popen[bytes], arrivals: Arrivals) -> None:
        self._servers = servers
        self._process = process
        self._arrivals = arrivals
        self._requests = 0
        self._at = 0.0

    def until(self, requests: int, seconds: float) -> _Snapshot:
        """Return after this many requests, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while self._requests < requests and time.monotonic() < deadline:
            if self._process.poll() is not None:
                output = (self._servers.folder / "output.log").read_text()[-500:]
                raise Unfinished(f"it ended with status {self._process.returncode}: {output}")
            time.sleep(0.01)
            new = self._arrivals.read()
            self._requests += len(new)
            self._at = new[-1] if new else self._at
        return _Snapshot(self._requests, self._at, usage(self._process.pid), self._servers.redis_cpu())


class _CpuMeter:
    """CPU used since this object was created."""

    def __init__(self, servers: Servers, process: subprocess.Popen[bytes]) -> None:
        self._servers, self._process = servers, process
        self._at, self._cpu, self._redis = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), usage(self._process.pid).cpu, self._servers.redis_cpu()

    def shares(self) -> tuple[float, float]:
        """Return the shares of one core: that of the process with its descendants, and that of Redis."""
        at, cpu, redis = self._now()
        return (cpu - self._cpu) / (at - self._at), (redis - self._redis) / (at - self._at)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process. After five seconds, kill it with all of its descendants."""
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
