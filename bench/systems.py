"""The systems that are compared: relay and other queues, each with the same number of worker processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from redis import Redis

from bench.producers import PEERS, Arq, Asynq, BullMq, Celery, Lists, Producer, Sidekiq, Taskiq, queue_names
from bench.workloads import Workload

CONCURRENCY = 64
"""Requests in flight, for each system."""

RELAY = str(Path(sys.executable).parent / "relay")
WEBHOOK = frozenset({"webhook"})
HTTP_1 = frozenset({"webhook", "mixed"})
EVERY = frozenset({"webhook", "mixed", "pusher", "pusher-single", "apns", "fcm"})
APNS = frozenset({"apns", "apns-100"})
GO = EVERY - {"pusher", "pusher-single"}


@dataclass(frozen=True, slots=True)
class Setting:
    """The addresses and the folder of one run."""

    redis_url: str
    url: str
    """URL of the receiver."""
    ca: Path
    """The authority of the receiver's certificate."""
    folder: Path
    processes: int = 1
    """Worker processes. Systems that cannot start several are started several times."""

    @property
    def output(self) -> Path:
        """The file with the system's standard output and error."""
        return self.folder / "output.log"


class System(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def workloads(self) -> frozenset[str]:
        """The names of the workloads that the system supports."""

    @property
    def producer(self) -> Callable[[Redis, bool], Producer]:
        """Returns the producer of messages; `True`: for a steady rate, one message at a time."""

    def missing(self) -> str:
        """Return how to install the system; empty if it is ready."""

    def start(self, workload: Workload, setting: Setting) -> subprocess.Popen[bytes]: ...


@dataclass(frozen=True, slots=True)
class Relay:
    name: str = "relay"
    workloads: frozenset[str] = EVERY | APNS
    queues: int = 1
    """Lists that are read; the producer spreads messages over them."""
    prefix: tuple[str, ...] = ()
    """Words before the command, such as a profiler's."""

    def missing(self) -> str:
        return ""

    def producer(self, redis: Redis, steady: bool) -> Producer:
        return Lists(redis, steady, self.queues)

    def start(self, workload: Workload, setting: Setting) -> subprocess.Popen[bytes]:
        providers = workload.providers(setting.url, setting.ca, setting.folder)
        bare = {"format": "bare", "provider": next(iter(providers))} if workload.bare else {}
        document = {
            "redis": {"url": setting.redis_url},
            "queues": [{"name": name, **bare} for name in queue_names(self.queues)],
            "providers": {name: {"concurrency": CONCURRENCY, **each} for name, each in providers.items()},
            "processes": setting.processes,
            "admin": {"listen": ""},
            "log": {"level": "warning"},
        }
        path = setting.folder / "relay.yaml"
        path.write_text(yaml.safe_dump(document))
        return _run([*self.prefix, RELAY, "run", "-c", str(path)], setting)


@dataclass(frozen=True, slots=True)
class Bare:
    """`bench.bare`, in relay's own environment."""

    name: str = "bare lane path"
    workloads: frozenset[str] = WEBHOOK
    producer: Callable[[Redis, bool], Producer] = Lists

    def missing(self) -> str:
        return ""

    def start(self, workload: Workload, setting: Setting) -> subprocess.Popen[bytes]:
        command = _spawn([sys.executable, "-m", "bench.bare"], setting)
        return _run(command, setting, env=_environment(workload, setting))


@dataclass(frozen=True, slots=True)
class Peer:
    """A system in a folder of `bench/peers`."""

    name: str
    folder: str
    command: str
    """The command. Its first word is a program of the system's virtual environment, or on the PATH."""
    producer: Callable[[Redis, bool], Producer]
    workloads: frozenset[str] = WEBHOOK
    needs: str = ""
    """A path below `peers` that the system needs."""

    def missing(self) -> str:
        if self._binary() is None or not (PEERS / self.needs).exists():
            return f"not installed: bench/peers/install {self.folder}"
        return ""

    def _binary(self) -> str | None:
        folder = PEERS / self.folder
        return shutil.which(self.command.split()[0], path=f"{folder}/.venv/bin:{folder}:{os.environ['PATH']}")

    def start(self, workload: Workload, setting: Setting) -> subprocess.Popen[bytes]:
        command = [str(self._binary()), *self.command.split()[1:]]
        where = PEERS / self.folder
        return _run(_spawn(command, setting), setting, cwd=where, env=_environment(workload, setting))


@dataclass(frozen=True, slots=True)
class Absent:
    """A system that cannot be installed here. Each run reports it as skipped."""

    name: str
    why: str
    workloads: frozenset[str] = frozenset()
    producer: Callable[[Redis, bool], Producer] = Lists

    def missing(self) -> str:
        return self.why

    def start(self, workload: Workload, setting: Setting) -> subprocess.Popen[bytes]:
        raise AssertionError(self.why)


def _environment(workload: Workload, setting: Setting) -> dict[str, str]:
    """Return the environment with the options of a run."""
    return {
        **os.environ,
        "BENCH_WORK": workload.name,
        "BENCH_REDIS": setting.redis_url,
        "BENCH_URL": setting.url,
        "BENCH_CA": str(setting.ca),
        "BENCH_CONCURRENCY": str(CONCURRENCY),
    }


def _spawn(command: list[str], setting: Setting) -> list[str]:
    if setting.processes == 1:
        return command
    return [sys.executable, str(Path(__file__).parent / "spawn.py"), str(setting.processes), *command]


def _run(command: list[str], setting: Setting, **where: Any) -> subprocess.Popen[bytes]:
    """Start a command. Its output is kept, to explain failures."""
    with setting.output.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **where)


_CELERY = f"-P gevent -c {CONCURRENCY} --without-gossip --without-mingle --without-heartbeat"
_TASKIQ = f"--workers 1 --max-async-tasks {CONCURRENCY} --max-prefetch {CONCURRENCY} --log-level WARNING"

_NO_MODULE = "its Go modules were not available; the plain Go loop and apns2 are substitutes"

SYSTEMS: tuple[System, ...] = (
    Relay(),
    Bare(),
    Peer("plain Node loop", "plain_node", "node worker.mjs", Lists, EVERY, "node_modules/undici"),
    Peer("plain Go loop", "plain_go", "plain_go", Lists, GO),
    Peer(
        "plain Go loop, one thread", "plain_go", "env GOMAXPROCS=1 ./plain_go", Lists, GO, "plain_go/plain_go"
    ),
    Peer("apns2", "apns2", "apns2", Lists, APNS),
    Peer("apns2, one thread", "apns2", "env GOMAXPROCS=1 ./apns2", Lists, APNS, "apns2/apns2"),
    Peer("asynq", "asynq", "asynq", Asynq),
    Peer("plain Python loop", "plain_python", "python worker.py", Lists, HTTP_1, "plain_python/.venv"),
    Peer("BullMQ", "bullmq", "node worker.mjs", BullMq, WEBHOOK, "node_modules/bullmq"),
    Peer("arq", "arq", "arq worker.Settings", Arq),
    Peer("taskiq", "taskiq", f"taskiq worker worker:broker {_TASKIQ}", Taskiq),
    Peer("Celery", "celery", f"celery -A worker worker {_CELERY} --loglevel=WARNING", Celery),
    Peer("Sidekiq", "sidekiq", f"sidekiq -r ./worker.rb -c {CONCURRENCY} -q default", Sidekiq),
    Absent("Redpanda Connect", _NO_MODULE),
    Absent("gorush", _NO_MODULE),
)
