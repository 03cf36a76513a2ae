"""The effect of failing customers on the others: `python -m bench.customers [--seconds N] [--repeat N]`.

One worker process sends webhooks of 1,000 customers, each a group of its own. 100 of them are sick: a quarter
each refuses connections, never answers, answers 429 with a Retry-After of an hour, and answers 500. They get
as many messages as the others, and have a backlog. The latency of the healthy customers' messages is compared
with alternating runs without the sick ones: over the whole run, and over its second half.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

from redis import Redis

from bench import harness
from testing.ports import free_port

TROUBLES = ("refuse", "hang", "throttle", "fail")
BACKLOG = 20
"""Messages that wait for each sick customer at the start."""


def element(url: str, customer: int, number: int | None = None) -> str:
    """Return a message; only those of healthy customers have a number."""
    body = {"path": f"/{harness.FILLER}"} if number is None else {"n": number, "path": f"/{harness.FILLER}"}
    return json.dumps({"group": f"customer-{customer}", "payload": {"url": url, "body": body}})


class Customers:
    """The customers' endpoints."""

    def __init__(self, healthy: range, sick: range, troubles: Sequence[str], port: int) -> None:
        self.healthy, self.sick, self._troubles = healthy, sick, troubles
        self._base, self._nowhere = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"

    def url(self, customer: int) -> str:
        if customer not in self.sick:
            return f"{self._base}/ok/{customer}"
        trouble = self._troubles[customer % len(self._troubles)]
        return f"{self._nowhere if trouble == 'refuse' else self._base}/{trouble}/{customer}"

    def backlog(self) -> list[str]:
        return [element(self.url(customer), customer) for customer in self.sick for _ in range(BACKLOG)]


def steady(redis: Redis, customers: Customers, *, per_second: int, seconds: float) -> list[float]:
    """Push messages to random customers. Returns the time of each push to a healthy one, in Unix seconds.

    The healthy ones get the same messages at the same times, whether there are sick ones or not.
    """
    rng, start, pushed = random.Random(1), time.perf_counter(), list[float]()
    for index in range(int(per_second * seconds)):
        customer = rng.randrange(customers.healthy.stop)
        while (left := start + index / per_second - time.perf_counter()) > 0:
            time.sleep(left)
        if customer in customers.sick:
            redis.rpush("hook", element(customers.url(customer), customer))
        elif customer in customers.healthy:
            text = element(customers.url(customer), customer, len(pushed))
            pushed.append(time.time())
            redis.rpush("hook", text)
    return pushed


def run(
    folder: Path,
    redis: Redis,
    healthy: range,
    sick: range,
    troubles: Sequence[str],
    *,
    per_second: int,
    seconds: float,
) -> dict[str, float]:
    """Return p50, p99 and the worst age in milliseconds, of the whole run and of its second half."""
    redis.flushall()
    hook = {"type": "webhook", "allow_private": True, "groups": {"by": "message"}}
    with harness.receiver() as receiver:
        customers = Customers(healthy, sick, troubles, receiver.port)
        with harness.workers(folder, redis, {"hook": hook}, queue_format="envelope"):
            # The first request of a process loads the HTTP client.
            redis.rpush("hook", element(customers.url(healthy[0]), healthy[0]))
            harness.wait_for(lambda: bool(receiver.read_new()))
            if backlog := customers.backlog():
                redis.rpush("hook", *backlog)
            pushed = steady(redis, customers, per_second=per_second, seconds=seconds)
            ages = arrive(receiver, pushed)
    return {**percentiles("", ages), **percentiles("later_", ages[len(ages) // 2 :])}


def arrive(receiver: harness.Arrivals, pushed: Sequence[float]) -> list[float]:
    """Wait until all messages have arrived, and return the age of each one at its arrival in milliseconds."""
    ages: dict[int, float] = {}

    def all_arrived() -> bool:
        for at, *numbers in receiver.read_new():
            ages.update((int(number), (at - pushed[int(number)]) * 1000) for number in numbers)
        return len(ages) == len(pushed)

    harness.wait_for(all_arrived, 300)
    return [ages[number] for number in range(len(pushed))]


def percentiles(prefix: str, ages: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(ages, n=100)
    return {f"{prefix}p50": cuts[49], f"{prefix}p99": cuts[98], f"{prefix}worst": max(ages)}


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return the medians of the rounds, and the medians of the ratios within each round."""
    columns = ("p50", "p99", "worst", "later_p50", "later_p99", "later_worst")
    lines = ["| healthy customers | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for label, runs in found.items():
        cells = [f"{median(each[name] for each in runs):.2f}" for name in columns]
        lines.append(f"| {label} sick ones, ms | {' | '.join(cells)} |")
    pairs = list(zip(found["without"], found["with"], strict=True))
    cells = [f"{median(sick[name] / well[name] for well, sick in pairs):.2f}" for name in columns]
    return "\n".join([*lines, f"| ratio | {' | '.join(cells)} |"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.customers", description=__doc__)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--sick", type=int, default=100)
    parser.add_argument("--rate", type=int, default=300, help="messages per second to all customers")
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each run")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--troubles", nargs="+", choices=TROUBLES, default=TROUBLES)
    parser.add_argument("--json", type=Path, help="also write the figures of all runs to this file")
    options = parser.parse_args()
    healthy = range(options.sick, options.customers)
    runs_of = {"without": range(0), "with": range(options.sick)}
    found: dict[str, list[dict[str, float]]] = {label: [] for label in runs_of}
    with tempfile.TemporaryDirectory() as name, harness.redis_server(Path(name)) as redis:
        # Alternate, so that a slow phase of the machine affects both.
        for _ in range(options.repeat):
            for label, sick in runs_of.items():
                result = run(
                    Path(name),
                    redis,
                    healthy,
                    sick,
                    options.troubles,
                    per_second=options.rate,
                    seconds=options.seconds,
                )
                found[label].append(result)
                print(label, {key: round(value, 1) for key, value in result.items()}, file=sys.stderr)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
