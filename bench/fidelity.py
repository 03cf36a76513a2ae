"""How exactly a limit is kept, and how much of it is used: `python -m bench.fidelity [--repeat N]`.

So many worker processes share one limit while a backlog stands. Three clocks are the same one: Redis's, which
stamps each claim (MONITOR), the receiver's, and this process's. The worst window is found by a bucket that
leaks at the rate: what it held at its fullest, beyond the burst, is what some window had too much. It is told
for the claims, where the limit is kept, and for the arrivals, where the provider sees it; the way between the
two is measured for each message. It holds the pacing, which is meant, and jitter, which is not.
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

from bench import stage
from relay.store.record import unpack

LANE = "relay:{limited}:"
PLAN = ((10, 25.0), (1_000, 12.0), (10_000, 8.0))
"""Messages a second, and seconds of each run."""

WORKERS = (1, 3, 8)

MOST_WEBHOOKS = 2_000
"""A second: above it, the limit would be the two cores and not what is measured. Then batches go out."""

_BUCKET = re.compile(rb'"bucket:[^"]*" "[^" ]+ (\d+)"')
_LEASES = f'lua] "HSET" "{LANE}inflight:'.encode()
_WORD = re.compile(rb'"(\d+)"')


@dataclass(frozen=True)
class Fidelity:
    """One run. The ways are from claim to arrival, in milliseconds."""

    used: float
    """The share of the limit, 1 for all of it."""
    claims_over: float
    """Messages that the worst window of claims had beyond burst + rate x window."""
    start_over: float
    """The same of arrivals, from the first one on."""
    arrivals_over: float
    """The same of arrivals, once the first fifth is there: every process has made its first request by then,
    which takes longer, as it loads the HTTP client."""
    early_ms: float
    """By how much that window was too short for what it held, in milliseconds."""
    way_p50: float
    way_p99: float
    way_max: float
    lag_ms: float
    """How late the receiver itself was at worst."""
    claim_scripts: float
    """Claims a second, over the whole fleet."""


class Monitor:
    """Notes what Redis is asked, as raw bytes: parsed once the measurement is over."""

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
    """When each ticket was claimed first, in Unix seconds: at the moment that the bucket was looked at."""
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
    """Messages that the worst window held beyond burst + rate x window; not below 0."""
    level, last, most = 0.0, 0.0, 0.0
    for at in times:
        level = max(0.0, level - (at - last) * rate) + 1
        last = at
        most = max(most, level)
    return max(0.0, most - burst)


def slope(times: Sequence[float]) -> float:
    """Messages a second over all of the time: a line through all of them, so that the ends count little."""
    start = times[0]
    return linear_regression([at - start for at in times], range(len(times))).slope


def prefill(redis: Redis, number: int) -> dict[int, int]:
    """Push so many messages while the lane is paused; their tickets by number, once all are in it."""
    redis.hset(f"{LANE}control", "paused", "1")
    for start in range(0, number, 1000):
        redis.rpush("limited", *map(stage.element, range(start, min(start + 1000, number))))
    stage.wait_for(lambda: redis.hlen(f"{LANE}bodies") == number)
    return {
        json.loads(unpack(record).payload_json)["n"]: int(ticket)
        for ticket, record in redis.hscan_iter(f"{LANE}bodies", count=1000)
    }


def run(
    folder: Path, redis: Redis, processes: int, rate: int, burst: int, seconds: float, *, batches: bool
) -> Fidelity:
    """One limit, so many workers; webhooks, or Pusher events in batches of ten."""
    redis.flushall()
    number = round(rate * seconds) + burst
    with stage.receiver() as receiver:
        kind = stage.pusher if batches else stage.webhook
        limited = kind(receiver.port, rate=f"{rate}/s", burst=burst)
        providers: Mapping[str, Mapping[str, object]] = {"limited": limited}
        with stage.workers(folder, redis, providers, processes=processes):
            tickets = prefill(redis, number)
            receiver.look()
            receiver.lag = 0.0
            monitor = Monitor(redis.connection_pool.connection_kwargs["port"])
            redis.hdel(f"{LANE}control", "paused")
            redis.publish("relay:wake", "limited")
            # Nothing looks while it runs: it would share the two cores.
            time.sleep(seconds)
            stage.wait_for(lambda: redis.hlen(f"{LANE}bodies") == 0, 30 + 2 * seconds)
            claimed = claims(monitor.close())
        arrivals = sorted((at, int(n)) for at, *numbers in receiver.look() for n in numbers)
    assert len(arrivals) == len(claimed) == number, (len(arrivals), len(claimed), number)
    times = [at for at, _ in arrivals]
    start = number // 5
    ways = sorted((at - claimed[tickets[n]]) * 1000 for at, n in arrivals[start:])
    cuts = quantiles(ways, n=100, method="inclusive")
    taken = sorted(claimed.values())
    over = worst(times[start:], rate, burst)
    return Fidelity(
        # The burst at the start is no part of the rate.
        used=slope(times[start:]) / rate,
        claims_over=worst(taken, rate, burst),
        start_over=worst(times, rate, burst),
        arrivals_over=over,
        early_ms=over / rate * 1000,
        way_p50=cuts[49],
        way_p99=cuts[98],
        way_max=ways[-1],
        lag_ms=receiver.lag * 1000,
        claim_scripts=len(set(taken)) / (taken[-1] - taken[0]),
    )


def summary(runs: Sequence[Fidelity]) -> Fidelity:
    """The medians; of what was too much and too late, the worst."""
    worse = {"claims_over", "start_over", "arrivals_over", "early_ms", "way_max", "lag_ms"}
    return Fidelity(
        **{
            field.name: (max if field.name in worse else median)(getattr(run, field.name) for run in runs)
            for field in fields(Fidelity)
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fidelity", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each")
    parser.add_argument("--rates", type=int, nargs="+", default=[rate for rate, _ in PLAN])
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--burst", type=int, help="default: as relay's, a tenth of a second's worth")
    parser.add_argument("--batches", action="store_true", help="Pusher events, and not webhooks, at any rate")
    parser.add_argument("--seconds", type=float, help="of each run; default: by the rate")
    parser.add_argument("--json", type=Path, help="write the figures of all runs here, too")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    print(
        "| limit | workers | used | claims over | arrivals over, from the start | later | too early, ms "
        "| way p50, ms | p99 | max | receiver late, ms | claims/s |\n|" + " ---: |" * 12
    )
    with tempfile.TemporaryDirectory() as name, stage.redis_server(Path(name)) as redis:
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
                    f"| {row.start_over:.3f} | {row.arrivals_over:.3f} | {row.early_ms:.1f} "
                    f"| {row.way_p50:.1f} | {row.way_p99:.1f} | {row.way_max:.1f} "
                    f"| {row.lag_ms:.1f} | {row.claim_scripts:,.0f} |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
