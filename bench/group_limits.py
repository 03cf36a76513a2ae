"""The accuracy of the limits of groups: `python -m bench.group_limits [--repeat N]`.

Several worker processes share a lane with a backlog of ten groups, each of which has the same limit. Reported
are the group that used the least of its limit, and the worst window of any group, as in `bench.fidelity`: by
the claims as Redis executed them (MONITOR), and by the arrivals.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from redis import Redis

from bench import harness
from bench.fidelity import Monitor, slope, worst
from relay.store.record import unpack

LANE = "relay:{limited}:"
GROUPS = 10
RATES = (10, 50)
"""Messages per second of each group."""

WORKERS = (1, 3, 8)
_LEASES = re.compile(
    rb'^\+?(\d+\.\d+) \[\d+ lua\] "HSET" "' + re.escape(LANE).encode() + rb'inflight:[^"]*" (.*)'
)
_PAIR = re.compile(rb'"(\d+)" "[^"]*"')


@dataclass(frozen=True)
class GroupFidelity:
    """One run."""

    used: float
    """The used share of the limit, of the group that used the least; 1: all of it."""
    claims_over: float
    """Messages in the worst window of a group's claims, beyond burst + rate x window."""
    arrivals_over: float
    """The same for arrivals, after the first fifth."""
    claim_scripts: float
    """Claims that handed out something, per second over the whole fleet."""


def claims(log: bytes) -> dict[int, float]:
    """Return the time of the first claim of each ticket, in Unix seconds."""
    found: dict[int, float] = {}
    for line in log.split(b"\r\n"):
        if match := _LEASES.match(line):
            for ticket in _PAIR.findall(match[2]):
                found.setdefault(int(ticket), float(match[1]))
    return found


def element(number: int) -> str:
    payload = json.loads(harness.element(number))
    return json.dumps({"group": f"customer-{number % GROUPS}", "payload": payload})


def prefill(redis: Redis, number: int) -> dict[int, int]:
    """Push this many messages while the lane is paused. Returns the number of each by its ticket."""
    redis.hset(f"{LANE}control", "paused", "1")
    for start in range(0, number, 1000):
        redis.rpush("limited", *map(element, range(start, min(start + 1000, number))))
    harness.wait_for(lambda: redis.hlen(f"{LANE}bodies") == number)
    return {
        int(ticket): json.loads(unpack(record).payload_json)["n"]
        for ticket, record in redis.hscan_iter(f"{LANE}bodies", count=1000)
    }


def run(folder: Path, redis: Redis, processes: int, rate: int, seconds: float) -> GroupFidelity:
    redis.flushall()
    burst = max(1, rate // 10)
    number = GROUPS * (round(rate * seconds) + burst)
    with harness.receiver() as receiver:
        rules = {"by": "message", "rate": f"{rate}/s"}
        providers = {"limited": harness.webhook(receiver.port, groups=rules)}
        with harness.workers(folder, redis, providers, processes=processes, queue_format="envelope"):
            numbers = prefill(redis, number)
            monitor = Monitor(redis.connection_pool.connection_kwargs["port"])
            redis.hdel(f"{LANE}control", "paused")
            redis.publish("relay:wake", "limited")
            # Do not poll meanwhile: that would use the same two cores.
            time.sleep(seconds)
            harness.wait_for(lambda: redis.hlen(f"{LANE}bodies") == 0, 30 + 2 * seconds)
            claimed = claims(monitor.close())
        arrivals = sorted((at, int(n)) for at, *found in receiver.read_new() for n in found)
    assert len(arrivals) == len(claimed) == number, (len(arrivals), len(claimed), number)
    claimed_by, arrived_by = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list)
    for ticket, at in claimed.items():
        claimed_by[numbers[ticket] % GROUPS].append(at)
    for at, n in arrivals:
        arrived_by[n % GROUPS].append(at)
    later = [times[len(times) // 5 :] for times in arrived_by.values()]
    moments = set(claimed.values())
    return GroupFidelity(
        used=min(slope(times) for times in later) / rate,
        claims_over=max(worst(sorted(times), rate, burst) for times in claimed_by.values()),
        arrivals_over=max(worst(times, rate, burst) for times in later),
        claim_scripts=len(moments) / (max(moments) - min(moments)),
    )


def summary(runs: Sequence[GroupFidelity]) -> GroupFidelity:
    """Return the medians; for excesses the worst."""
    return GroupFidelity(
        **{
            field.name: (max if "over" in field.name else median)(getattr(run, field.name) for run in runs)
            for field in fields(GroupFidelity)
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.group_limits", description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each combination")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES))
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each run")
    options = parser.parse_args()
    print(
        f"| limit of each of {GROUPS} groups | workers | used | claims over | arrivals over | claims/s |\n"
        "|" + " ---: |" * 6
    )
    with tempfile.TemporaryDirectory() as name, harness.redis_server(Path(name)) as redis:
        for rate in options.rates:
            for processes in options.workers:
                row = summary(
                    [run(Path(name), redis, processes, rate, options.seconds) for _ in range(options.repeat)]
                )
                print(
                    f"| {rate}/s | {processes} | {row.used:.1%} | {row.claims_over:.3f} "
                    f"| {row.arrivals_over:.3f} | {row.claim_scripts:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
