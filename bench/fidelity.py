"""The accuracy of a rate limit, and the share of it that is used: `python -m bench.fidelity [--repeat N]`.

Several worker processes share one limit while a backlog waits. Redis (which stamps each claim in MONITOR),
the receiver and this process use the same clock. A bucket that leaks at the rate finds the worst window: its
highest level, minus the burst, is the excess of that window. The excess is reported for the claims, which
Redis limits, and for the arrivals, which the provider sees. The time from claim to arrival is measured for
each message; it consists of the intended pacing and of unintended jitter.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import linear_regression, median, quantiles

from redis import Redis

from bench import harness
from relay.store.record import unpack

LANE = "relay:{limited}:"
PLAN = ((10, 25.0), (1_000, 12.0), (10_000, 8.0))
"""Messages per second, and seconds of each run."""

WORKERS = (1, 3, 8)

MOST_WEBHOOKS = 2_000
"""Per second. Above this rate the two cores would be the limit, so Pusher batches are used."""

_BUCKET = re.compile(rb'"bucket:[^"]*" "[^" ]+ (\d+)"')
_LEASES = f'lua] "HSET" "{LANE}inflight:'.encode()
_WORD = re.compile(rb'"(\d+)"')


@dataclass(frozen=True)
class Fidelity:
    """One run. Delays are from claim to arrival, in milliseconds."""

    used: float
    """The used share of the limit; 1: all of it."""
    claims_over: float
    """Messages in the worst window of claims, beyond burst + rate x window."""
    start_over: float
    """The same for all arrivals."""
    worst_tenth: float
    """The most arrivals within 0.1 s, from the start on, divided by burst + 0.1 s of the rate."""
    arrivals_over: float
    """The same for arrivals after the first fifth: by then every process has sent its first request, which
    takes longer because it loads the HTTP client."""
    early_ms: float
    """The time by which the worst window was too short for its messages, in milliseconds."""
    delay_p50: float
    delay_p99: float
    delay_max: float
    lag_ms: float
    """The worst delay of the receiver itself."""
    claim_scripts: float
    """Claims per second, over the whole fleet."""


class Monitor:
    """Records MONITOR's output as raw bytes. They are parsed after the measurement."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"MONITOR\r\n")
        self._chunks: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := self._socket.recv(1 << 20):
            self._chunks.append(chunk)

    def close(self) -> bytes:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        return b"".join(self._chunks)


def claims(log: bytes) -> dict[int, float]:
    """Return the time of the first claim of each ticket, in Unix seconds: when the script read the bucket."""
    found: dict[int, float] = {}
    taken: list[bytes] = []
    for line in log.split(b"\r\n"):
        if _LEASES in line:
            taken = _WORD.findall(line.partition(_LEASES)[2].partition(b'"')[2])[::2]
        elif taken and (match := _BUCKET.search(line)):
            for ticket in taken:
                found.setdefault(int(ticket), int(match[1]) / 1e6)
            taken = []
    return found


def worst(times: Iterable[float], rate: float, burst: int) -> float:
    """Return the messages in the worst window beyond burst + rate x window, at least 0."""
    level, last, most = 0.0, 0.0, 0.0
    for at in times:
        level = max(0.0, level - (at - last) * rate) + 1
        last = at
        most = max(most, level)
    return max(0.0, most - burst)


def worst_share(times: Sequence[float], rate: float, burst: int, seconds: float) -> float:
    """Return the most arrivals within so many seconds, as a share of what the limit allows."""
    first, most = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most / (burst + rate * seconds)


def slope(times: Sequence[float]) -> float:
    """Return messages per second as the slope of a regression line, so that the two ends have little
    effect."""
    start = times[0]
    return linear_regression([at - start for at in times], range(len(times))).slope


def prefill(redis: Redis, number: int) -> dict[int, int]:
    """Push this many messages while the lane is paused, and wait until it holds all. Returns tickets by
    number."""
    redis.hset(f"{LANE}control", "paused", "1")
    for start in range(0, number, 1000):
        redis.rpush("limited", *map(harness.element, range(start, min(start + 1000, number))))
    harness.wait_for(lambda: redis.hlen(f"{LANE}bodies") == number)
    return {
        json.loads(unpack(record).payload_json)["n"]: int(ticket)
        for ticket, record in redis.hscan_iter(f"{LANE}bodies", count=1000)
    }


def run(
    folder: Path, redis: Redis, processes: int, rate: int, burst: int, seconds: float, *, batches: bool
) -> Fidelity:
    """Measure one limit with several workers: webhooks, or Pusher events in batches of ten."""
    redis.flushall()
    number = round(rate * seconds) + burst
    with harness.receiver("--prompt") as receiver:
        kind = harness.pusher if batches else harness.webhook
        limited = kind(receiver.port, rate=f"{rate}/s", burst=burst)
        providers: Mapping[str, Mapping[str, object]] = {"limited": limited}
        with harness.workers(folder, redis, providers, processes=processes):
            tickets = prefill(redis, number)
            receiver.read_new()
            receiver.lag = 0.0
            monitor = Monitor(redis.connection_pool.connection_kwargs["port"])
            redis.hdel(f"{LANE}control", "paused")
            redis.publish("relay:wake", "limited")
            # Do not poll meanwhile: that would use the same two cores.
            time.sleep(seconds)
            harness.wait_for(lambda: redis.hlen(f"{LANE}bodies") == 0, 30 + 2 * seconds)
            claimed = claims(monitor.close())
        arrivals = sorted((at, int(n)) for at, *numbers in receiver.read_new() for n in numbers)
    assert len(arrivals) == len(claimed) == number, (len(arrivals), len(claimed), number)
    times = [at for at, _ in arrivals]
    start = number // 5
    delays = sorted((at - claimed[tickets[n]]) * 1000 for at, n in arrivals[start:])
    cuts = quantiles(delays, n=100, method="inclusive")
    taken = sorted(claimed.values())
    over = worst(times[start:], rate, burst)
    return Fidelity(
        # The burst at the start does not count towards the rate.
        used=slope(times[start:]) / rate,
        claims_over=worst(taken, rate, burst),
        start_over=worst(times, rate, burst),
        worst_tenth=worst_share(times, rate, burst, 0.1),
        arrivals_over=over,
        early_ms=over / rate * 1000,
        delay_p50=cuts[49],
        delay_p99=cuts[98],
        delay_max=delays[-1],
        lag_ms=receiver.lag * 1000,
        claim_scripts=len(set(taken)) / (taken[-1] - taken[0]),
    )


def summary(runs: Sequence[Fidelity]) -> Fidelity:
    """Return the medians; for excesses and delays the worst."""
    worse = {"claims_over", "start_over", "worst_tenth", "arrivals_over", "early_ms", "delay_max", "lag_ms"}
    return Fidelity(
        **{
            field.name: (max if field.name in worse else median)(getattr(run, field.name) for run in runs)
            for field in fields(Fidelity)
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fidelity", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each combination")
    parser.add_argument("--rates", type=int, nargs="+", default=[rate for rate, _ in PLAN])
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--burst", type=int, help="default: a tenth of a second's worth, as in relay")
    parser.add_argument(
        "--batches", action="store_true", help="Pusher events instead of webhooks at any rate"
    )
    parser.add_argument("--seconds", type=float, help="duration of each run; default: by the rate")
    parser.add_argument("--json", type=Path, help="also write the figures of all runs to this file")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    print(
        "| limit | workers | used | claims over | arrivals over, from the start | worst 0.1 s | later "
        "| too early, ms "
        "| claim to arrival, p50, ms | p99 | max | receiver late, ms | claims/s |\n|" + " ---: |" * 13
    )
    with tempfile.TemporaryDirectory() as name, harness.redis_server(Path(name)) as redis:
        for rate in options.rates:
            seconds = options.seconds or dict(PLAN).get(rate, 12.0)
            burst = options.burst or max(1, rate // 10)
            batches = options.batches or rate > MOST_WEBHOOKS
            for processes in options.workers:
                runs = [
                    run(Path(name), redis, processes, rate, burst, seconds, batches=batches)
                    for _ in range(options.repeat)
                ]
                found[f"{rate}/s, {processes}"] = [asdict(each) for each in runs]
                row = summary(runs)
                print(
                    f"| {rate:,}/s | {processes} | {row.used:.1%} | {row.claims_over:.3f} "
                    f"| {row.start_over:.3f} | {row.worst_tenth:.2f} "
                    f"| {row.arrivals_over:.3f} | {row.early_ms:.1f} "
                    f"| {row.delay_p50:.1f} | {row.delay_p99:.1f} | {row.delay_max:.1f} "
                    f"| {row.lag_ms:.1f} | {row.claim_scripts:,.0f} |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
