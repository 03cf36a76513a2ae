"""The end of a run: after all faults have ended, every message must end."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from chaos.configuration import PREFIX, PROVIDERS, QUEUES
from chaos.harness import Harness
from chaos.messages import Kind
from chaos.producer import Producer
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.redis_client.connect import open_client
from relay.settings.options import ProviderOptions
from relay.store.fleet import LEASE, Fleet
from relay.store.lane import Lane
from relay.store.queue import Queue

EMPTY_TIMEOUT = 300.0
"""Seconds for a lane to become empty after the last fault."""


async def cancel_all(harness: Harness, producer: Producer, done: asyncio.Event) -> None:
    """Cancel each CANCELLED message shortly after its push. Returns when `done` is set and all are
    cancelled."""
    client = open_client(harness.topology.url)
    lane = Lane(client, PREFIX, "hook", ProviderOptions(type="webhook"), "operator")
    left = {push.number: push for push in harness.plan.pushes if push.kind is Kind.CANCELLED}
    tried: set[int] = set()
    finished = 0.0
    try:
        while left and (not finished or time.monotonic() - finished < EMPTY_TIMEOUT):
            if done.is_set() and not finished:
                finished = time.monotonic()
            for number, push in list(left.items()):
                pushed = producer.pushed.get(number)
                if pushed is None:
                    if done.is_set():
                        del left[number]
                    continue
                try:
                    workers = [member.info.worker for member in await Fleet(client, PREFIX).members()]
                    answer = await lane.cancel(push.id, workers)
                except StoreError:
                    tried.add(number)  # it may have succeeded
                    continue
                if answer == "cancelled":
                    harness.cancelled.add(number)
                if answer == "cancelled" or (answer == "unknown" and (number in tried or not pushed.certain)):
                    del left[number]
            await asyncio.sleep(0.5)  # messages in flight can be cancelled later, or have ended by then
        harness.broken += [f"message {number} could not be cancelled" for number in left]
    finally:
        await client.aclose()


async def cancel_again(harness: Harness) -> None:
    """Cancel messages whose cancellation a failover has undone. Any other reason is a violation."""
    client = open_client(harness.topology.url)
    lane = Lane(client, PREFIX, "hook", ProviderOptions(type="webhook"), "operator")
    try:
        for push in harness.plan.pushes:
            if push.kind is not Kind.CANCELLED or await lane.cancel(push.id, []) != "cancelled":
                continue
            # If the answer to a push was lost, the message may have arrived after the first attempt to cancel
            # it.
            if push.number in harness.cancelled and not harness.topology.acknowledged_by:
                harness.broken.append(f"message {push.number} was cancelled, and was waiting again")
    finally:
        await client.aclose()


async def resume_again(harness: Harness) -> None:
    """Resume lanes whose resume a failover has undone. Any other reason is a violation. An operator would see
    the state in `relay status`."""
    client = open_client(harness.topology.url)
    try:
        for provider in PROVIDERS:
            lane = Lane(client, PREFIX, provider, ProviderOptions(type=""), "operator")
            if not await client.hexists(lane.keys.part("control"), "paused"):
                continue
            if not harness.topology.acknowledged_by:
                harness.broken.append(f"the lane of {provider} was resumed, and is paused again")
            finished = await harness.command("resume", provider)
            if finished.code:
                harness.broken.append(f"relay resume: {finished.err[-500:]}")
    finally:
        await client.aclose()


async def retry_dead(harness: Harness) -> None:
    """Repair the provider and retry its dead letters."""
    harness.receivers.by_name["recovering"].repaired = True
    for _ in range(20):
        harness.retried += 1
        finished = await harness.command("dead", "retry", "recovering")
        if finished.code == 0:
            return
        await asyncio.sleep(0.5)  # Redis may be failing at the moment
    harness.broken.append(f"relay dead retry: {finished.err[-500:]}")


async def until_empty(harness: Harness) -> None:
    """Return when Redis is empty and all dead workers are recovered. After a timeout, note the rest."""
    client = open_client(harness.topology.url)
    deadline = time.monotonic() + EMPTY_TIMEOUT
    try:
        while True:
            left = ["Redis did not answer"]
            with suppress(StoreError):
                left = await _left(client)
            if not left or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)  # other processes do the work, so Redis must be polled
    finally:
        await client.aclose()
    harness.broken += [f"not empty after {EMPTY_TIMEOUT:g} s: {what}" for what in left]


async def _left(client: Client) -> list[str]:
    members = await Fleet(client, PREFIX).members()
    left = [
        f"{one.info.worker} is dead and not recovered"
        for one in members
        if one.silent > LEASE or not Path(f"/proc/{one.info.pid}").exists()
    ]
    workers = [member.info.worker for member in members]
    for name in QUEUES:
        waiting, taken = await Queue(client, PREFIX, name, "operator").depth(workers)
        if waiting or taken:
            left.append(f"queue {name}: {waiting} waiting, {taken} taken")
    for provider in PROVIDERS:
        lane = Lane(client, PREFIX, provider, ProviderOptions(type=""), "operator")
        size, outbox = await lane.size(), await lane.outbox_length()
        if size or outbox:
            left.append(f"lane {provider}: {size} messages, {outbox} entries in the outbox")
    return left


async def stop_all(harness: Harness) -> None:
    """Stop every host in an orderly way."""
    for trouble in await asyncio.gather(*(host.stop() for host in harness.hosts.values())):
        if trouble:
            harness.broken.append(f"at the end: {trouble}")
