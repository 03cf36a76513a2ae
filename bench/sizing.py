"""The figures for sizing a fleet: `python -m bench.sizing [providers] [memory] [shards] [--rounds N]`.

- providers: CPU of a worker and of Redis for a message of each provider type, while a backlog is drained.
- memory: the memory that a waiting message takes in Redis.
- shards: the rate of one Redis, and of the three of a Redis Cluster. Each may use a small share of a core
  only (by a cgroup, which needs root), because few cores of workers can't keep a whole core of Redis busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from bench import harness, machine, memory, shards
from bench.group_rate import redis_cpu
from bench.measure import Servers
from bench.systems import Relay
from bench.workloads import WORKLOADS, Element, Workload, filler, hit, stamp
from relay.sandbox import certificates

SECONDS = 10.0
"""A backlog is drained for at most this long."""

# The subscription of RFC 8291, appendix A.
KEYS = {
    "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    "auth": "BTBZMqHH6r4Tts7J_aSIgg",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds for a message."""

    worker: float
    redis: float


def templated(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
    return {"http": {"type": "http", "url": f"{url}/hook", "body": {"text": "${payload.path}"}}}


def to_apprise(number: int, pushed: float) -> Element:
    return {"title": "3 hits", "body": filler(190)}


def apprise(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
    return {"apprise": {"type": "apprise", "url": url.replace("http:", "json:") + "/hook"}}


def webpush(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
    key = folder / "vapid.pem"
    key.write_bytes(certificates.new_key())
    keys = {"private_key_file": str(key), "subject": "mailto:ops@example.com"}
    return {"webpush": {"type": "webpush", "allow_private": True, **keys}}


def workloads(servers: Servers) -> Iterator[Workload]:
    """Web Push goes without TLS here, because its options have no authority for a certificate of ours."""

    def to_a_browser(number: int, pushed: float) -> Element:
        endpoint = f"{servers.nginx.plain}/push/{number}"
        return {
            "subscription": {"endpoint": endpoint, "keys": KEYS},
            "data": {"body": filler(100), "t": stamp(pushed)},
        }

    yield from WORKLOADS
    yield Workload("http", hit, templated)
    yield Workload("apprise", to_apprise, apprise)
    yield Workload("webpush", to_a_browser, webpush)


def provider_costs(servers: Servers, messages: int) -> dict[str, Cost]:
    found = {}
    for workload in workloads(servers):
        servers.fill(Relay(), workload, messages)
        before = servers.redis_cpu()
        run = servers.drain(Relay(), workload, messages, SECONDS)
        # From the start: the intake is ahead of the deliveries.
        whole = (servers.redis_cpu() - before) / messages * 1e6
        found[workload.name] = Cost(run.cpu * 10, max(whole, run.redis_cpu * 10))
    found["redis"] = to_redis(servers.folder, servers.redis, messages)
    return found


def to_redis(folder: Path, redis: Redis, messages: int) -> Cost:
    """Publish, and append to a stream of the same Redis, whose work is in the figures."""
    redis.flushall()
    element = json.dumps({"channel": "news", "stream": "news", "data": filler(190)})
    for _ in range(messages // 1000):
        redis.rpush("live", *[element] * 1000)
    with harness.workers(folder, redis, {"live": {"type": "redis", "maxlen": messages}}) as (pid,):

        def arrived(number: int) -> tuple[float, float, int]:
            harness.wait_for(lambda: redis.xlen("news") >= number)
            return harness.cpu(pid), redis_cpu(redis), redis.xlen("news")

        first, last = arrived(messages // 5), arrived(messages)
    done = last[2] - first[2]
    return Cost((last[0] - first[0]) / done * 1e6, (last[1] - first[1]) / done * 1e6)


def providers(folder: Path, messages: int, rounds: int) -> Iterator[str]:
    servers = Servers(folder)
    try:
        runs = [provider_costs(servers, messages) for _ in range(rounds)]
    finally:
        servers.close()
    yield "| provider | worker, µs a message | messages/s of a core | Redis, µs a message | of a core |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name in runs[0]:
        worker = median(run[name].worker for run in runs)
        redis = median(run[name].redis for run in runs)
        yield f"| {name} | {worker:.0f} | {1e6 / worker:,.0f} | {redis:.0f} | {1e6 / redis:,.0f} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["providers", "memory", "shards", []])
    parser.add_argument("--messages", type=int, default=30_000, help="size of a backlog; default 30000")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; default 3")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    parts: Sequence[str] = options.parts or ("providers", "memory", "shards")
    print("; ".join(f"{name} {value}" for name, value in machine.facts().items()), end="\n\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker may run as another user
        if "providers" in parts:
            print(*providers(folder / "providers", options.messages, options.rounds), sep="\n", end="\n\n")
        if "memory" in parts:
            print(*asyncio.run(memory.table(folder, options.messages)), sep="\n", end="\n\n")
        if "shards" in parts:
            print(*shards.table(folder, options.messages, options.rounds), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
