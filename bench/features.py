"""The cost of a feature for messages that do not use it, and the speed of skipping an expired backlog.

`python -m bench.features [--messages N] [--expired N] [--repeat N]`. Only the lane, without HTTP: messages
are enqueued, claimed and settled in batches, and Redis reports its own CPU time. One message in a
hundred uses the feature; the others are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from redis.asyncio import Redis

from relay.message import Message
from relay.message.fan_out import FanOut, split
from relay.settings.options import ProviderOptions
from relay.settings.values import parse_rate
from relay.store.lane import Lane
from relay.store.settlement import DeliveredOne
from testing.redis_server import RedisServer, binaries

PAYLOAD = b'{"body":{"text":"' + b"x" * 200 + b'"}}'
BATCH = 100


def message(number: int, **fields: Any) -> Message:
    return Message(id=f"bench-{number}", queue="bench", payload_json=PAYLOAD, **fields)


def fan_out(number: int) -> Message | FanOut:
    targets = b",".join(b'"https://example.com/%d"' % target for target in range(100))
    payload = b'{"targets":[' + targets + b'],"body":{}}'
    whole = Message(id=f"fan-{number}", queue="bench", payload_json=payload, deliver_at=time.time() + 3600)
    return split(whole, "url", 100)


FEATURES: dict[str, Callable[[int], Message | FanOut]] = {
    "nothing": message,
    "id and dedup_window": lambda number: message(number, named=True),
    "priority": lambda number: message(number, priority=number % 3),
    "ttl": lambda number: message(number, expires_at=time.time() + 3600),
    "delay (still waiting)": lambda number: message(number, deliver_at=time.time() + 3600),
    "collapse_key": lambda number: message(number, collapse_key=f"c{number}"),
    "ordering_key": lambda number: message(number, ordering_key=f"k{number % 1000}"),
    "reply_to": lambda number: message(number, reply_to="receipts:1"),
    "fan-out (still waiting)": fan_out,
}


async def redis_cpu(redis: Redis) -> float:
    """Return the CPU seconds that Redis has used."""
    info = await redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def drain(lane: Lane) -> int:
    """Claim and settle until nothing is ready. Returns the number of claimed messages."""
    total = 0
    while True:
        claimed = await lane.claim(BATCH)
        if claimed.claims:
            await lane.settle(
                [DeliveredOne(claim.ticket, claim.fencing_token, 1) for claim in claimed.claims]
            )
            total += len(claimed.claims)
        elif claimed.reason == "empty":
            return total


async def measure(redis: Redis, feature: str, messages: int) -> tuple[float, float]:
    """Return messages per second, and Redis's CPU in microseconds per message."""
    await redis.flushall()
    options = ProviderOptions(type="bench", dedup_window=60.0)
    lane = Lane(redis, "relay", "bench", options, "w1")
    make = FEATURES[feature]
    started, cpu, plain = time.perf_counter(), await redis_cpu(redis), 0
    for start in range(0, messages, BATCH):
        await lane.enqueue([make(start), *(message(start + number) for number in range(1, BATCH))])
        plain += BATCH - 1
        await drain(lane)
    seconds, cpu = time.perf_counter() - started, await redis_cpu(redis) - cpu
    return plain / seconds, cpu / plain * 1e6


async def expired(redis: Redis, messages: int) -> tuple[float, int, float]:
    """Return expired messages per second, the tokens that they cost, and the longest claim in
    milliseconds."""
    await redis.flushall()
    lane = Lane(
        redis, "relay", "bench", ProviderOptions(type="bench", rate=(parse_rate("1/h"),), burst=1), "w1"
    )
    past = time.time() - 1
    for start in range(0, messages, 1000):
        await lane.enqueue([message(start + number, expires_at=past) for number in range(1000)])
    started, longest = time.perf_counter(), 0.0
    while True:
        before = time.perf_counter()
        claimed = await lane.claim(BATCH)
        longest = max(longest, time.perf_counter() - before)
        if claimed.reason == "empty":
            break
    seconds = time.perf_counter() - started
    await lane.enqueue([message(0)])
    tokens = 1 - len((await lane.claim(1)).claims)
    assert await lane.size() == 1
    return messages / seconds, tokens, longest * 1000


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--expired", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    version, binary = max(binaries().items())
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(binary, Path(folder), "--appendonly", "no").start()
        async with Redis.from_url(server.url, protocol=2) as redis:
            found: dict[str, list[tuple[float, float]]] = {feature: [] for feature in FEATURES}
            # Alternate, so that a slow phase of the machine affects all of them.
            for _ in range(arguments.repeat):
                for feature in FEATURES:
                    found[feature].append(await measure(redis, feature, arguments.messages))
            speed, cpu = (
                {feature: median(run[part] for run in runs) for feature, runs in found.items()}
                for part in (0, 1)
            )
            print(f"Redis {version}; medians of {arguments.repeat}; {arguments.messages} messages each\n")
            print("| with some messages with | messages/s | ratio | Redis CPU µs | ratio |")
            print("| --- | ---: | ---: | ---: | ---: |")
            for feature in FEATURES:
                print(
                    f"| {feature} | {speed[feature]:,.0f} | {speed[feature] / speed['nothing']:.2f} "
                    f"| {cpu[feature]:.1f} | {cpu[feature] / cpu['nothing']:.2f} |"
                )
            rate, tokens, longest = await expired(redis, arguments.expired)
            print(f"\nexpired: {rate:,.0f}/s of {arguments.expired:,}; tokens: {tokens}", end="; ")
            print(f"longest claim: {longest:.1f} ms")
        server.stop()


if __name__ == "__main__":
    asyncio.run(main())
