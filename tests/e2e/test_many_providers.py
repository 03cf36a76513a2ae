"""A thousand providers in one file: the cost of each one at the start, counted instead of timed."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from redis.asyncio import Redis

from relay.engine.claimer import ClaimTuning
from relay.engine.flusher import FlushTuning
from relay.engine.forwarder import ForwardTuning
from relay.engine.idle_lanes import IdleTuning
from relay.engine.janitor import JanitorTuning
from relay.engine.worker import Worker, WorkerTuning
from relay.provider import discover
from relay.redis_client.connect import connect
from relay.settings.load import load
from relay.settings.models import Settings
from relay.store.scripting import script
from testing.redis_server import BLOCKING_TIMEOUT
from testing.relay_process import write_config
from testing.site import Site

KINDS: list[dict[str, Any]] = [
    {"type": "pusher", "app_id": "1", "key": "k", "secret": "s", "url": "http://127.0.0.1:9"},
    {"type": "webhook", "url": "http://127.0.0.1:9/hook", "secret": "whsec_" + "YWJj" * 8},
    {"type": "webhook", "rate": "5/s", "rate_per": "host"},
    {"type": "http", "url": "http://127.0.0.1:9/${payload.a}", "body": {"text": "${payload.text}"}},
    {"type": "apns", "key_file": "key.pem", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "topic": "a.b"},
    {"type": "webpush", "private_key_file": "key.pem", "subject": "mailto:ops@example.com"},
    {"type": "apprise", "url": "json://127.0.0.1:9/"},
]


def read(folder: Path, url: str, number: int) -> Settings:
    """A file with this number of providers of mixed types, as the worker gets it."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    providers = {f"p{index}": KINDS[index % len(KINDS)] for index in range(number)}
    path = write_config(folder, url, providers)
    return load(path, {name: adapter.Options for name, adapter in discover().items()}, {})


ONLY_THE_START = WorkerTuning(
    claiming=ClaimTuning(idle_poll=3600),
    idle=IdleTuning(poll=7200),
    forwarding=ForwardTuning(poll=3600),
    janitor=JanitorTuning(first_pause=3600),
    flushing=FlushTuning(sample=7200),
)
"""No loop has a second turn, however long the first one takes on a slow machine."""


@dataclass(frozen=True)
class Cost:
    """Resources of an idle worker, and its commands until it has checked each of its lanes."""

    tasks: int
    threads: int
    files: int
    connections: int
    commands: int
    """Round trips about the lanes, since its start."""


async def cost(settings: Settings, url: str, redis: Redis) -> Cost:
    """Run a worker in this process until all lanes have been checked for messages and outbox entries."""
    before = Cost(len(asyncio.all_tasks()), threading.active_count(), open_files(), await clients(redis), 0)
    outbox = script("outbox").digest
    claimed: set[str] = set()
    forwarded: set[str] = set()
    commands = 0
    async with (
        Redis.from_url(url, protocol=2, socket_timeout=BLOCKING_TIMEOUT) as other,
        other.monitor() as monitor,
        connect(url) as client,
    ):
        worker = Worker(settings, discover(), client, tuning=ONLY_THE_START)
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        async with asyncio.timeout(120):
            while not claimed == forwarded == settings.providers.keys():
                entry = await monitor.next_command()
                lane = re.search(r"relay:\{(p\d+)\}:", entry["command"])
                if ":control layout" in entry["command"]:
                    continue  # one round trip for all lanes
                if lane is not None and entry["client_type"] != "lua":
                    commands += 1
                    (forwarded if outbox in entry["command"] else claimed).add(lane[1])
        found = Cost(
            len(asyncio.all_tasks()) - before.tasks,
            threading.active_count() - before.threads,
            open_files() - before.files,
            await clients(redis) - before.connections,
            commands,
        )
        stop.set()
        await running
    return found


async def clients(redis: Redis) -> int:
    return int((await redis.info("clients"))["connected_clients"])


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_each_provider_costs_little_at_the_start_and_at_rest(site: Site) -> None:
    url = site.server.url
    await cost(read(site.folder, url, 2), url, site.redis)  # loads the scripts
    few, many = 14, 84
    less = await cost(read(site.folder, url, few), url, site.redis)
    more = await cost(read(site.folder, url, many), url, site.redis)

    def each(name: str) -> float:
        return float(getattr(more, name) - getattr(less, name)) / (many - few)

    # A tenth: the background loops may be in the midst of their work.
    assert each("tasks") <= 3.1, "the dispatcher, its claimer and its settler"
    assert each("threads") == 0
    assert each("files") <= 1.1, "none but a connection to Redis"
    assert each("connections") <= 1.1
    assert each("commands") <= 2.1, "one claim, and one check of the outbox"


def calls(folder: Path, number: int) -> int:
    """The number of function calls that read a file with this number of providers."""
    profile = cProfile.Profile()
    profile.enable()
    read(folder, "redis://127.0.0.1:1/0", number)
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_reading_the_file_takes_as_much_for_the_last_provider_as_for_the_first(tmp_path: Path) -> None:
    calls(tmp_path, 7)  # imports, and lookups that happen once for each type
    first, second, fourth = (calls(tmp_path, number) for number in (70, 140, 280))
    assert (fourth - second) / (second - first) == pytest.approx(2, rel=0.1)
