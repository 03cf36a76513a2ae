"""The effect of two failing providers on a third: `python -m bench.isolation [--seconds N] [--repeat N]`.

One worker process serves three webhooks. `fast` answers immediately and gets a steady stream. `hangs` accepts
requests and never answers, so each request ends at its timeout. Nothing listens at the address of `refused`.
The latter two have a backlog. The latency of `fast` is compared with alternating runs without the other two:
once with default breakers, and once with breakers that never open, so that relay keeps trying both at their
rate limits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from redis import Redis

from bench import harness
from testing.ports import free_port

NEVER: Mapping[str, Any] = {"breaker": {"failures": 1_000_000, "share": 0.0}}
TROUBLE: Mapping[str, Mapping[str, Any]] = {
    "alone": {},
    "with two failing providers": {"timeout": "2s"},
    "the same without breakers, 100/s each": {"timeout": "2s", "rate": "100/s", **NEVER},
}


def steady(redis: Redis, queue: str, per_second: int, seconds: float) -> list[float]:
    """Push numbered messages at a steady rate. Returns the time of each push, in Unix seconds."""
    start, pushed = time.perf_counter(), []
    for number in range(int(per_second * seconds)):
        while (left := start + number / per_second - time.perf_counter()) > 0:
            time.sleep(left)
        element = harness.element(number)
        pushed.append(time.time())
        redis.rpush(queue, element)
    return pushed


def run(folder: Path, redis: Redis, trouble: str, per_second: int, seconds: float) -> dict[str, float]:
    """Return p50, p99 and the worst latency in milliseconds, and the worker's share of a core."""
    redis.flushall()
    with harness.receiver() as fast, harness.receiver("--silent") as silent:
        providers = {"fast": harness.webhook(fast.port)}
        if options := TROUBLE[trouble]:
            providers["hangs"] = harness.webhook(silent.port, **options)
            providers["refused"] = harness.webhook(free_port(), **options)
        for name in providers.keys() - {"fast"}:
            redis.rpush(name, *map(harness.element, range(5_000)))
        with harness.workers(folder, redis, providers) as (pid,):
            steady(redis, "fast", per_second, 3.0)  # the start, and the first failures of the others
            time.sleep(0.5)
            fast.read_new()
            before = harness.cpu(pid)
            pushed = steady(redis, "fast", per_second, seconds)
            used = (harness.cpu(pid) - before) / seconds
            ages: list[float] = []
            while len(ages) < len(pushed):
                ages += [(at - pushed[int(n)]) * 1000 for at, n in fast.read_new()]
    cuts = quantiles(ages, n=1000)
    return {"p50": cuts[499], "p99": cuts[989], "p999": cuts[998], "worst": max(ages), "core": used}


@contextmanager
def _harness() -> Iterator[tuple[Path, Redis]]:
    with tempfile.TemporaryDirectory() as name, harness.redis_server(Path(name)) as redis:
        yield Path(name), redis


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.isolation", description=__doc__)
    parser.add_argument("--rate", type=int, default=300, help="messages per second for the fast provider")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each run")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--json", type=Path, help="also write the figures of all runs to this file")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {trouble: [] for trouble in TROUBLE}
    with _harness() as (folder, redis):
        # Alternate, so that a slow phase of the machine affects all of them.
        for _ in range(options.repeat):
            for trouble in TROUBLE:
                found[trouble].append(run(folder, redis, trouble, options.rate, options.seconds))
    alone = median(each["p99"] for each in found["alone"])
    print(
        "| the fast provider | p50, ms | p99, ms | against alone | p99 of each run | worst | worker's core |"
    )
    print("| --- |" + " ---: |" * 6)
    for trouble, runs in found.items():
        row = {name: median(each[name] for each in runs) for name in runs[0]}
        each = ", ".join(f"{run['p99']:.1f}" for run in runs)
        print(
            f"| {trouble} | {row['p50']:.2f} | {row['p99']:.2f} | {row['p99'] / alone - 1:+.0%} | {each} "
            f"| {max(run['worst'] for run in runs):.1f} | {row['core']:.1%} |"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
