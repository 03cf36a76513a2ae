"""The rate of one Redis and of a Redis Cluster, if Redis and nothing else is the limit.

Pusher's batches cost the workers least.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml
from redis import Redis, RedisCluster
from redis.crc import key_slot

from bench import harness
from bench.processes import descendants
from testing import redis_cluster
from testing.redis_server import RedisServer, binaries

SHARE = 0.1
"""The part of a core that each Redis may use."""

PERIOD = 10_000
"""Microseconds. A server that has used its share of a period waits for the next one. Linux allows no share
below 1,000 µs."""

CGROUPS = Path("/sys/fs/cgroup")
WORKERS = 6
MASTERS = 3
LANES = 6
"""Two for each server of the cluster."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    masters: int
    """0: a single Redis."""
    lanes: int


CASES = (
    Case("one Redis, one lane", 0, 1),
    Case(f"one Redis, {LANES} lanes", 0, LANES),
    Case("a cluster of three, one lane", MASTERS, 1),
    Case(f"a cluster of three, {LANES} lanes", MASTERS, LANES),
)


def names(lanes: int) -> list[str]:
    """Return names of lanes whose slots belong to the servers in turn."""
    found: list[str] = []
    for number in itertools.count():
        master = key_slot(f"hook-{number}".encode()) * MASTERS // redis_cluster.SLOTS
        if master == len(found) % MASTERS:
            found.append(f"hook-{number}")
        if len(found) == lanes:
            return found
    raise AssertionError


@contextmanager
def slowed(pids: Sequence[int]) -> Iterator[None]:
    """Let each process use only its share of a core. Raises OSError without root or cgroups."""
    version_1 = CGROUPS / "cpu"
    parent = version_1 if version_1.is_dir() else CGROUPS
    quota = round(PERIOD * SHARE)
    groups = []
    try:
        for pid in pids:
            groups.append(group := parent / f"relay-bench-{pid}")
            group.mkdir()
            if parent == version_1:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (group / "cpu.max").write_text(f"{quota} {PERIOD}")
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in groups:
            for member in (group / "cgroup.procs").read_text().split():
                (parent / "cgroup.procs").write_text(member)
            group.rmdir()


@contextmanager
def servers(folder: Path, masters: int) -> Iterator[tuple[str, list[int]]]:
    """Run one Redis, or a cluster with this number of masters. Yields its URL and the ports."""
    binary = max(binaries().items())[1]
    with ExitStack() as stack:
        if masters:
            cluster = redis_cluster.RedisCluster(binary, folder, masters=masters).start()
            stack.callback(cluster.stop)
            yield cluster.url, [node.port for node in cluster.nodes]
        else:
            server = RedisServer(binary, folder, "--appendonly", "no").start()
            stack.callback(server.stop)
            yield server.url, [server.port]


def process_id(port: int) -> int:
    with Redis(port=port) as client:
        return int(client.info("server")["process_id"])


def connect(url: str) -> Redis | RedisCluster:
    if url.startswith("redis+cluster://"):
        host, _, port = url.rpartition(",")[2].removeprefix("redis+cluster://").partition(":")
        return RedisCluster(host=host, port=int(port))
    return Redis.from_url(url)


def fill(client: Redis | RedisCluster, queues: Sequence[str], messages: int) -> None:
    for number, queue in enumerate(queues):
        texts = [harness.element(index) for index in range(number, messages, len(queues))]
        for start in range(0, len(texts), 1000):
            client.rpush(queue, *texts[start : start + 1000])


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Stop processes for a moment, in which a backlog appears."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def fleet(config: Path, client: Redis | RedisCluster) -> Iterator[list[int]]:
    """Run the workers. Yields the ids of their processes once all have joined."""
    process = subprocess.Popen([harness.RELAY, "run", "-c", str(config)])
    try:
        harness.wait_for(lambda: client.zcard("relay:{fleet}:workers") == WORKERS)
        yield descendants(process.pid)
    finally:
        process.terminate()
        process.wait()


def configure(folder: Path, url: str, queues: Sequence[str], port: int) -> Path:
    path = folder / "relay.yaml"
    document = {
        "redis": {"url": url},
        "queues": [{"name": name, "provider": name, "format": "bare"} for name in queues],
        "providers": {name: harness.pusher(port) for name in queues},
        "processes": WORKERS,
        "admin": {"listen": ""},
        "log": {"level": "error"},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def run(folder: Path, case: Case, messages: int) -> float:
    """Drain a backlog. Returns messages per second."""
    folder.mkdir()
    queues = names(case.lanes)
    with ExitStack() as stack:
        url, ports = stack.enter_context(servers(folder / "redis", case.masters))
        for port in ports:
            with Redis(port=port) as server:
                server.config_set("appendonly", "no")
        client = stack.enter_context(connect(url))
        receiver = stack.enter_context(harness.receiver())
        path = configure(folder, url, queues, receiver.port)
        workers = stack.enter_context(fleet(path, client))
        with frozen(workers):
            fill(client, queues, messages)
            stack.enter_context(slowed([process_id(port) for port in ports]))
        times: list[float] = []

        def arrived(number: int) -> bool:
            times.extend(at for at, *numbers in receiver.read_new() for _ in numbers)
            return len(times) >= number

        harness.wait_for(lambda: arrived(messages // 5), 300)
        first = len(times)
        harness.wait_for(lambda: arrived(messages), 300)
    return (len(times) - first) / (times[-1] - times[first - 1])


def table(folder: Path, messages: int, rounds: int) -> Iterator[str]:
    found: dict[str, list[float]] = {case.name: [] for case in CASES}
    for round_ in range(rounds):
        for case in CASES:
            found[case.name].append(run(folder / f"{round_}-{CASES.index(case)}", case, messages))
    base = found[CASES[0].name]
    yield f"| each Redis has {SHARE:.0%} of a core, {WORKERS} workers | messages/s | ratio |"
    yield "| --- | ---: | ---: |"
    for name, rates in found.items():
        ratio = median(rate / first for rate, first in zip(rates, base, strict=True))
        yield f"| {name} | {median(rates):,.0f} | {ratio:.2f} |"
