"""The rate of a lane with groups, compared with one without: `python -m bench.group_rate [--repeat N]`.

A backlog of webhooks is drained by one worker: without groups, and for 1, 10, 100 and 10,000 groups in turn.
The cases alternate, and each is compared with the one without groups of the same round: messages per second,
and CPU of the worker and of Redis.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from redis import Redis

from bench import harness

GROUPS = (0, 1, 10, 100, 10_000)
WARM = 0.2
"""Measuring starts after this share of the messages: by then the HTTP client is loaded."""


@dataclass(frozen=True)
class Rate:
    """One run."""

    messages: float
    """Messages per second."""
    worker: float
    """CPU microseconds of the worker per message."""
    redis: float
    """The same for Redis."""


def backlog(number: int, groups: int) -> Iterator[str]:
    for index in range(number):
        group = {"group": f"customer-{index % groups}"} if groups else {}
        yield json.dumps({**group, "payload": json.loads(harness.element(index))})


def redis_cpu(redis: Redis) -> float:
    found = redis.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def run(folder: Path, redis: Redis, messages: int, groups: int) -> Rate:
    redis.flushall()
    elements = list(backlog(messages, groups))
    for start in range(0, messages, 1000):
        redis.rpush("hook", *elements[start : start + 1000])
    rules = {"groups": {"by": "message"}} if groups else {}
    with harness.receiver() as receiver:
        providers = {"hook": harness.webhook(receiver.port, **rules)}
        with harness.workers(folder, redis, providers, queue_format="envelope") as (pid,):
            times: list[float] = []

            def arrived(number: int) -> bool:
                times.extend(at for at, *_ in receiver.read_new())
                return len(times) >= number

            harness.wait_for(lambda: arrived(round(messages * WARM)), 300)
            first, worker, server = len(times), harness.cpu(pid), redis_cpu(redis)
            harness.wait_for(lambda: arrived(messages), 300)
            worker, server = harness.cpu(pid) - worker, redis_cpu(redis) - server
    done = messages - first
    return Rate(done / (times[-1] - times[first - 1]), worker / done * 1e6, server / done * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.group_rate", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="size of the backlog; default 20000")
    parser.add_argument("--groups", type=int, nargs="+", default=list(GROUPS))
    parser.add_argument("--repeat", type=int, default=3, help="rounds; default 3")
    options = parser.parse_args()
    found: dict[int, list[Rate]] = {groups: [] for groups in (0, *options.groups)}
    with tempfile.TemporaryDirectory() as name, harness.redis_server(Path(name)) as redis:
        for _ in range(options.repeat):
            for groups, runs in found.items():
                runs.append(run(Path(name), redis, options.messages, groups))
    columns = [field.name for field in fields(Rate)]
    print("| groups | messages/s | ratio | worker, µs a message | ratio | Redis, µs a message | ratio |")
    print("| ---: |" + " ---: |" * 6)
    for groups, runs in found.items():
        cells = []
        for column in columns:
            ratios = [
                getattr(one, column) / getattr(base, column) for one, base in zip(runs, found[0], strict=True)
            ]
            value = median(getattr(one, column) for one in runs)
            cells.append(f"{value:,.0f} | {median(ratios):.2f}")
        print(f"| {groups:,} | {' | '.join(cells)} |" if groups else f"| none | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
