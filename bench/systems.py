"""The systems that are measured: relay, and what else people use. As many worker processes of each."""

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

from bench.producers import PEERS, Arq, BullMq, Celery, Lists, Producer, Sidekiq, Taskiq
from bench.work import Work

CONCURRENCY = 64
"""Requests in flight, of each system."""

RELAY = str(Path(sys.executable).parent / "relay")
WEBHOOK = frozenset({"webhook"})
HTTP_1 = frozenset({"webhook", "mixed"})
EVERY = frozenset({"webhook", "mixed", "pusher", "pusher-single", "apns", "fcm"})


@dataclass(frozen=True, slots=True)
class Setting:
    """Where one run takes place."""

    redis_url: str
    url: str
    """Of the receiver."""
    ca: Path
    """Who issued its certificate, if it has one."""
    folder: Path
    processes: int = 1
    """Workers. Where a system has no way to start several, so many are started."""

    @property
    def said(self) -> Path:
        """What the system wrote on its standard output and error."""
        return self.folder / "said.log"


class System(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def works(self) -> frozenset[str]:
        """The names of the works that it can do."""

    @property
    def producer(self) -> Callable[[Redis, bool], Producer]:
        """How messages get in; `True`: at a steady rate, each alone."""

    def missing(self) -> str:
        """What is to be done before it can run here, if anything."""

    def start(self, work: Work, setting: Setting) -> subprocess.Popen[bytes]: ...


@dataclass(frozen=True, slots=True)
class Relay:
    name: str = "relay"
    works: frozenset[str] = EVERY
    producer: Callable[[Redis, bool], Producer] = Lists

    def missing(self) -> str:
        return ""

    def start(self, work: Work, setting: Setting) -> subprocess.Popen[bytes]:
        providers = work.providers(setting.url, setting.ca, setting.folder)
        bare = {"format": "bare", "provider": next(iter(providers))} if work.bare else {}
        document = {
            "redis": {"url": setting.redis_url},
            "queues": [{"name": "bench", **bare}],
            "providers": {name: {"concurrency": CONCURRENCY, **each} for name, each in providers.items()},
            "processes": setting.processes,
            "admin": {"listen": ""},
            "log": {"level": "warning"},
        }
        path = setting.folder / "relay.yaml"
        path.write_text(yaml.safe_dump(document))
        return _run([RELAY, "run", "-c", str(path)], setting)


@dataclass(frozen=True, slots=True)
class Bare:
    """`bench.bare`, in relay's own environment."""

    name: str = "bare lane path"
    works: frozenset[str] = WEBHOOK
    producer: Callable[[Redis, bool], Producer] = Lists

    def missing(self) -> str:
        return ""

    def start(self, work: Work, setting: Setting) -> subprocess.Popen[bytes]:
        command = _copies([sys.executable, "-m", "bench.bare"], setting)
        return _run(command, setting, env=_environment(work, setting))


@dataclass(frozen=True, slots=True)
class Peer:
    """Something else, as the README in its folder says."""

    name: str
    folder: str
    words: str
    """The command; its first word is of the peer's virtual environment, or on the PATH."""
    producer: Callable[[Redis, bool], Producer]
    works: frozenset[str] = WEBHOOK
    needs: str = ""
    """A path below `peers` without which it cannot run."""

    def missing(self) -> str:
        if self._binary() is None or not (PEERS / self.needs).exists():
            return f"not installed: bench/peers/install {self.folder}"
        return ""

    def _binary(self) -> str | None:
        folder = PEERS / self.folder
        return shutil.which(self.words.split()[0], path=f"{folder}/.venv/bin:{folder}:{os.environ['PATH']}")

    def start(self, work: Work, setting: Setting) -> subprocess.Popen[bytes]:
        command = [str(self._binary()), *self.words.split()[1:]]
        where = PEERS / self.folder
        return _run(_copies(command, setting), setting, cwd=where, env=_environment(work, setting))


@dataclass(frozen=True, slots=True)
class Absent:
    """What people use, too, and is not set up here: that is said at each run."""

    name: str
    why: str
    works: frozenset[str] = frozenset()
    producer: Callable[[Redis, bool], Producer] = Lists

    def missing(self) -> str:
        return self.why

    def start(self, work: Work, setting: Setting) -> subprocess.Popen[bytes]:
        raise AssertionError(self.why)


def _environment(work: Work, setting: Setting) -> dict[str, str]:
    """What a system is to do, for those that are told so."""
    return {
        **os.environ,
        "BENCH_WORK": work.name,
        "BENCH_REDIS": setting.redis_url,
        "BENCH_URL": setting.url,
        "BENCH_CA": str(setting.ca),
        "BENCH_CONCURRENCY": str(CONCURRENCY),
    }


def _copies(command: list[str], setting: Setting) -> list[str]:
    if setting.processes == 1:
        return command
    return [sys.executable, str(Path(__file__).parent / "copies.py"), str(setting.processes), *command]


def _run(command: list[str], setting: Setting, **where: Any) -> subprocess.Popen[bytes]:
    """What it says is kept, for when it fails."""
    with setting.said.open("wb") as said:
        return subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, **where)


_CELERY = f"-P gevent -c {CONCURRENCY} --without-gossip --without-mingle --without-heartbeat"
_TASKIQ = f"--workers 1 --max-async-tasks {CONCURRENCY} --max-prefetch {CONCURRENCY} --log-level WARNING"

_NO_MODULE = "its Go modules could not be had where this was written; the plain Go loop stands in for it"

SYSTEMS: tuple[System, ...] = (
    Relay(),
    Bare(),
    Peer("plain Node loop", "plain_node", "node worker.mjs", Lists, EVERY, "node_modules/undici"),
    Peer("plain Go loop", "plain_go", "plain_go", Lists, EVERY - {"pusher", "pusher-single"}),
    Peer("plain Python loop", "plain_python", "python worker.py", Lists, HTTP_1, "plain_python/.venv"),
    Peer("BullMQ", "bullmq", "node worker.mjs", BullMq, WEBHOOK, "node_modules/bullmq"),
    Peer("arq", "arq", "arq worker.Settings", Arq),
    Peer("taskiq", "taskiq", f"taskiq worker worker:broker {_TASKIQ}", Taskiq),
    Peer("Celery", "celery", f"celery -A worker worker {_CELERY} --loglevel=WARNING", Celery),
    Peer("Sidekiq", "sidekiq", f"sidekiq -r ./worker.rb -c {CONCURRENCY} -q default", Sidekiq),
    Absent("Redpanda Connect", _NO_MODULE),
    Absent("gorush", _NO_MODULE),
)
