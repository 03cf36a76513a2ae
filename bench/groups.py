"""The cost of groups in Redis: `python -m bench.groups [--groups N …] [--messages N] [--claims N]`.

The lane alone, without HTTP. For each number of groups, all with a backlog, claims and settles are timed by
Redis itself (SLOWLOG), and compared with a lane without groups. In the last row, all groups but 1,000 are
held by a Retry-After. Then the memory of a group: with a backlog, after everything was delivered, and while
Redis has to remember a bucket.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from redis.asyncio import Redis

from relay.message import Message
from relay.settings.options import DestinationOptions, ProviderOptions
from relay.settings.values import parse_rate
from relay.store.lane import Lane
from relay.store.scripting import script
from relay.store.settlement import DeliveredHeaderless, GroupHeld
from testing.redis_server import RedisServer, binaries

PAYLOAD = b'{"body":{"text":"' + b"x" * 200 + b'"}}'
BATCH = 200
WANTED = 50
"""Messages of a claim."""

FREE = 1000
"""Groups that are not held."""

HOUR = 3_600_000


@dataclass(frozen=True)
class Cost:
    """Microseconds of Redis: medians for a message, and the 99th percentile of a whole script call."""

    claim: float
    settle: float
    p99: float


def message(number: int, group: str) -> Message:
    return Message(id=f"bench-{number}", queue="bench", payload_json=PAYLOAD, group=group)


def a_lane(redis: Redis, **groups: Any) -> Lane:
    options = DestinationOptions(type="bench", groups={"by": "destination", **groups})
    return Lane(redis, "relay", "bench", options, "w1")


def plain_lane(redis: Redis) -> Lane:
    return Lane(redis, "relay", "bench", ProviderOptions(type="bench"), "w1")


async def fill(lane: Lane, groups: range, messages: int) -> None:
    """Enqueue messages for each group in turn. Without groups: messages without a group."""
    names = [f"customer-{group}" for group in groups] or [""]
    for start in range(0, messages, BATCH):
        numbers = range(start, min(start + BATCH, messages))
        await lane.enqueue([message(number, names[number % len(names)]) for number in numbers])


async def hold(lane: Lane, number: int) -> None:
    """Claim this number of messages, and let each hold its group for an hour."""
    while number > 0:
        claims = (await lane.claim(min(BATCH, number))).claims
        assert claims, "too few groups to hold"
        number -= len(claims)
        await lane.settle(
            [GroupHeld(claim.ticket, claim.fencing_token, HOUR, claim.tries(), "429") for claim in claims]
        )


FORMS = {
    "claim": ("claim", "claim:groups"),
    "settle": ("settle", "settle:groups", "settle_plain", "settle_plain_groups"),
}
"""The scripts that claim and settle."""


async def script_times(redis: Redis, name: str) -> AsyncIterator[int]:
    """Yield the microseconds of each call of a script since the last reset of the slow log."""
    digests = [script(form).digest.encode() for form in FORMS[name]]
    for entry in await redis.slowlog_get(100_000):
        words = entry["command"].split(maxsplit=2)
        if words[0] == b"EVALSHA" and words[1] in digests:
            yield entry["duration"]


async def settle_some(lane: Lane) -> None:
    claimed = (await lane.claim(WANTED)).claims
    assert len(claimed) == WANTED
    await lane.settle([DeliveredHeaderless(claim.ticket, claim.fencing_token) for claim in claimed])


async def measure(redis: Redis, lane: Lane, claims: int) -> Cost:
    """Claim and settle this number of times, after one time that loads the scripts."""
    await settle_some(lane)
    await redis.slowlog_reset()
    for _ in range(claims):
        await settle_some(lane)
    times = {name: [each async for each in script_times(redis, name)] for name in ("claim", "settle")}
    # A settle tries the short form now and then, although groups have a state.
    assert len(times["claim"]) == claims <= len(times["settle"])
    slow = max(quantiles(each, n=100)[98] for each in times.values())
    return Cost(median(times["claim"]) / WANTED, median(times["settle"]) / WANTED, slow)


async def costs(redis: Redis, numbers: Sequence[int], messages: int, claims: int) -> dict[str, Cost]:
    found: dict[str, Cost] = {}
    for groups in (0, *numbers):
        await redis.flushall()
        lane = a_lane(redis, concurrency=0) if groups else plain_lane(redis)
        await fill(lane, range(groups), max(messages, groups))
        label = {0: "no groups", 1: "1 group"}.get(groups, f"{groups:,} groups")
        found[label] = await measure(redis, lane, claims)
    most = max(numbers)
    if most > FREE:
        await redis.flushall()
        lane = a_lane(redis, concurrency=0)
        await fill(lane, range(most), most)
        await hold(lane, most - FREE)
        await fill(lane, range(most - FREE, most), messages)
        found[f"{most:,} groups, {most - FREE:,} of them held"] = await measure(redis, lane, claims)
    return found


async def used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def drain(lane: Lane) -> None:
    while claims := (await lane.claim(BATCH)).claims:
        await lane.settle([DeliveredHeaderless(claim.ticket, claim.fencing_token) for claim in claims])


async def memory(redis: Redis, groups: int) -> Mapping[str, float]:
    """Bytes for each group."""
    await redis.config_set("slowlog-log-slower-than", -1)  # its entries take memory, too
    await redis.slowlog_reset()
    found: dict[str, float] = {}
    for label, names in (("one message, no groups", range(0)), ("one message in each group", range(groups))):
        await redis.flushall()
        lane = a_lane(redis) if names else plain_lane(redis)
        empty = await used(redis)
        await fill(lane, names, groups)
        found[label] = (await used(redis) - empty) / groups
    await drain(lane)
    await lane.claim(1)
    found["nothing left to send"] = (await used(redis) - empty) / groups
    left = {key.decode().rpartition("}:")[2] async for key in redis.scan_iter("relay:*")}
    assert left <= {"control"}, left
    await redis.flushall()
    lane = a_lane(redis, rate=(parse_rate("1/h"),))
    empty = await used(redis)
    await fill(lane, range(groups), groups)
    await drain(lane)
    found["nothing left to send, a bucket that is not full"] = (await used(redis) - empty) / groups
    return found


async def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.groups",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 100, 10_000, 100_000])
    parser.add_argument("--messages", type=int, default=20_000, help="the least backlog")
    parser.add_argument("--claims", type=int, default=200, help=f"claims of {WANTED} messages")
    options = parser.parse_args()
    version, binary = max(binaries().items())
    with tempfile.TemporaryDirectory() as folder:
        log = ("--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000")
        server = RedisServer(binary, Path(folder), "--appendonly", "no", *log).start()
        try:
            async with Redis.from_url(server.url, protocol=2) as redis:
                found = await costs(redis, options.groups, options.messages, options.claims)
                print(f"Redis {version}, claims of {WANTED}; microseconds of Redis by its slow log\n")
                print("| backlog of | claim, a message | ratio | settle, a message | ratio | p99 of a call |")
                print("| --- |" + " ---: |" * 5)
                base = found["no groups"]
                for label, cost in found.items():
                    print(
                        f"| {label} | {cost.claim:.1f} | {cost.claim / base.claim:.2f} | {cost.settle:.1f} "
                        f"| {cost.settle / base.settle:.2f} | {cost.p99:,.0f} |"
                    )
                sizes = await memory(redis, max(options.groups))
                print(f"\n| {max(options.groups):,} groups | bytes of Redis for each |\n| --- | ---: |")
                for label, size in sizes.items():
                    print(f"| {label} | {size:,.1f} |")
        finally:
            server.stop()


if __name__ == "__main__":
    asyncio.run(main())
