"""relay's rate and memory as things grow: webhooks, each case beside the first of its kind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from redis.asyncio import Redis

from bench.measure import Backlog, Place
from bench.suite import Say
from bench.systems import Relay
from bench.work import Element, Work, hit, mixed, webhook, webhooks
from relay.message import Message
from relay.settings.options import ProviderOptions
from relay.store.lane import Lane

WEBHOOK = Work("webhook", hit, webhook)


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    name: str
    work: Work
    messages: int
    processes: int = 1
    delayed: int = 0
    """Messages that lie in the lane beside the backlog, due in a day."""


def cases(messages: int, most: int) -> Sequence[Case]:
    """`messages` in a usual backlog, `most` in the largest."""
    fewest = min(messages, 10_000)
    usual = Case("backlog", f"{fewest:,}", WEBHOOK, fewest)
    return (
        usual,
        replace(usual, name=f"{most:,}", messages=most),
        *(Case("providers", str(count), _providers(count), messages) for count in (1, 10, 200)),
        *(Case("processes", str(count), WEBHOOK, messages, processes=count) for count in (1, 2, 4)),
        *(
            Case("payload", name, replace(WEBHOOK, element=_sized(size)), min(messages, 30_000))
            for name, size in (("200 B", 140), ("2 KiB", 1988), ("20 KiB", 20_420))
        ),
        Case("delayed", "0", WEBHOOK, messages),
        Case("delayed", f"{most:,}", WEBHOOK, messages, delayed=most),
    )


def _providers(count: int) -> Work:
    def element(number: int, pushed: float) -> Element:
        return mixed(number, pushed, count)

    return Work("mixed", element, webhooks(count), bare=False)


def _sized(size: int) -> Callable[[int, float], Element]:
    return lambda number, pushed: hit(number, pushed, size)


def run(place: Place, chosen: Sequence[Case], seconds: float, rounds: int, say: Say) -> dict[str, Any]:
    """The medians, and each case's rate as a share of the first of its kind in the same round."""
    found: dict[tuple[str, str], list[Backlog]] = {}
    for number in range(rounds):
        for case in chosen:
            one = _measure(place, case, seconds)
            found.setdefault((case.kind, case.name), []).append(one)
            say(f"round {number + 1}: {case.kind} {case.name}: {one.messages_per_second:,.0f} messages/s")
    return {"growth": dict(_medians(found))}


def _measure(place: Place, case: Case, seconds: float) -> Backlog:
    if not case.delayed:
        return place.backlog(Relay(), case.work, case.messages, seconds, processes=case.processes)
    place.fill(Relay(), case.work, case.messages)
    asyncio.run(_delay(place.server.url, "webhook", case.delayed))
    return place.drain(Relay(), case.work, case.messages, seconds, processes=case.processes)


async def _delay(url: str, provider: str, count: int) -> None:
    """Put so many into a lane that are due in a day."""
    async with Redis.from_url(url, protocol=2) as redis:
        lane = Lane(redis, "relay", provider, ProviderOptions(type="webhook"), "bench")
        due, payload = time.time() + 86_400, json.dumps(hit(0, 0.0)).encode()
        for start in range(0, count, 500):
            await lane.enqueue(
                [
                    Message(id=f"later-{number}", queue="bench", payload_json=payload, deliver_at=due)
                    for number in range(start, min(count, start + 500))
                ]
            )


def _medians(found: dict[tuple[str, str], list[Backlog]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in dict.fromkeys(kind for kind, _ in found):
        of_kind = {name: runs for (each, name), runs in found.items() if each == kind}
        first = next(iter(of_kind.values()))
        rows: dict[str, Any] = {}
        for name, runs in of_kind.items():
            figures: dict[str, Any] = {
                key: median(getattr(run, key) for run in runs) for key in asdict(runs[0])
            }
            figures["ratio"] = median(
                run.messages_per_second / base.messages_per_second
                for run, base in zip(runs, first, strict=True)
            )
            rows[name] = figures
        yield kind, rows
