"""relay's rate and memory with growing numbers: webhooks, compared with the first case of each kind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from redis.asyncio import Redis

from bench.measure import Backlog, Servers
from bench.suite import Say
from bench.systems import Relay
from bench.workloads import (
    Element,
    Workload,
    apns,
    apns_push,
    fcm,
    fcm_message,
    hit,
    mixed,
    to_tokens,
    webhook,
    webhooks,
)
from relay.message import Message
from relay.settings.options import ProviderOptions
from relay.store.lane import Lane

GROUPS = (0, 10, 100, 10_000, 100_000)
TARGETS = 10_000
"""The most targets that a message may have."""
QUEUES = (1, 100, 1_000)
KINDS = {
    "backlog": "messages that wait",
    "providers": "providers on one queue",
    "processes": "worker processes",
    "payload": "bytes of a message",
    "groups": "groups in one lane",
    "delayed": "messages that are due in a day",
    "fan-out": "targets of a message",
    "tokens": "tokens of a push to APNs or FCM",
    "queues": "queues of one provider",
}
"""The tables, each with the number that grows in it."""
WEBHOOK = Workload("webhook", hit, webhook)


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    name: str
    workload: Workload
    messages: int
    """Deliveries of the backlog."""
    processes: int = 1
    delayed: int = 0
    """Messages in the lane that are due in a day, in addition to the backlog."""
    queues: int = 1
    """Lists over which the backlog is spread."""


def cases(messages: int, most: int, kinds: Sequence[str] | None = None) -> Sequence[Case]:
    """`messages` is the size of a usual backlog, `most` that of the largest. `kinds` selects tables."""
    found = _cases(messages, most)
    return [case for case in found if case.kind in kinds] if kinds else found


def _cases(messages: int, most: int) -> Sequence[Case]:
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
        *(Case("groups", f"{count:,}" if count else "none", _groups(count), messages) for count in GROUPS),
        Case("delayed", "0", WEBHOOK, messages),
        Case("delayed", f"{most:,}", WEBHOOK, messages, delayed=most),
        Case("fan-out", f"{messages:,} × 1", WEBHOOK, messages),
        Case("fan-out", f"1 × {TARGETS:,}", replace(WEBHOOK, targets=TARGETS), TARGETS),
        Case("fan-out", f"{most // TARGETS:,} × {TARGETS:,}", replace(WEBHOOK, targets=TARGETS), most),
        *_tokens(messages, "apns", apns_push, apns, "device_token"),
        *_tokens(messages, "fcm", fcm_message, fcm, "token"),
        *(Case("queues", f"{count:,}", WEBHOOK, messages, queues=count) for count in QUEUES),
    )


def _tokens(
    messages: int, name: str, element: Callable[[int, float], Element], providers: Any, field: str
) -> Iterator[Case]:
    """Pushes to one token each, and to 100 tokens each."""
    for count in (1, 100):
        many = to_tokens(element, field, count) if count > 1 else element
        workload = Workload(name, many, providers, tls=True, targets=count)
        yield Case("tokens", f"{name}: {count}", workload, messages)


def _providers(count: int) -> Workload:
    def element(number: int, pushed: float) -> Element:
        return mixed(number, pushed, count)

    return Workload("mixed", element, webhooks(count), bare=False)


def _groups(count: int) -> Workload:
    """Envelopes for each of `count` groups in turn."""

    def element(number: int, pushed: float) -> Element:
        group = {"group": f"customer-{number % count}"} if count else {}
        return {"provider": "webhook", **group, "payload": hit(number, pushed)}

    def providers(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
        groups = {"groups": {"by": "message"}} if count else {}
        return {"webhook": {"type": "webhook", "url": f"{url}/hook", **groups}}

    return Workload("groups", element, providers, bare=False)


def _fan_out(url: str, targets: int) -> Workload:
    """Messages with this number of URLs each, in a lane without groups. A single URL is the field `url`."""

    def element(number: int, pushed: float) -> Element:
        urls = [f"{url}/hook/{number}/{target}" for target in range(targets)]
        to = {"targets": urls} if targets > 1 else {"url": urls[0]}
        return {"provider": "webhook", "payload": {**to, "body": hit(number, pushed)}}

    def providers(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
        return {
            "webhook": {
                "type": "webhook",
                "allow_private": True,
            }
        }

    return Workload("fan-out", element, providers, targets=targets, bare=False)


def _sized(size: int) -> Callable[[int, float], Element]:
    return lambda number, pushed: hit(number, pushed, size)


def run(servers: Servers, chosen: Sequence[Case], seconds: float, rounds: int, say: Say) -> dict[str, Any]:
    """Return medians, and each case's rate relative to the first case of its kind in the same round."""
    found: dict[tuple[str, str], list[Backlog]] = {}
    for number in range(rounds):
        for case in chosen:
            one = _measure(servers, case, seconds)
            found.setdefault((case.kind, case.name), []).append(one)
            say(f"round {number + 1}: {case.kind} {case.name}: {one.messages_per_second:,.0f} messages/s")
    return {"growth": dict(_medians(found))}


def _measure(servers: Servers, case: Case, seconds: float) -> Backlog:
    system, workload = Relay(queues=case.queues), case.workload
    if case.kind == "fan-out":
        workload = _fan_out(servers.nginx.plain, workload.targets)
    servers.fill(system, workload, case.messages)
    if case.delayed:
        asyncio.run(_delay(servers.redis_server.url, "webhook", case.delayed))
    return servers.drain(system, workload, case.messages, seconds, processes=case.processes)


async def _delay(url: str, provider: str, count: int) -> None:
    """Enqueue this many messages that are due in a day."""
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
