"""The end of a run: everything is healed, and what was pushed has to come to its end."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from chaos.collect import PROVIDERS
from chaos.messages import Kind
from chaos.producer import Producer
from chaos.setting import PREFIX, QUEUES
from chaos.world import World
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.redis_client.connect import open_client
from relay.settings.options import ProviderOptions
from relay.store.fleet import LEASE, Fleet
from relay.store.lane import Lane
from relay.store.queue import Queue

EMPTY_TIMEOUT = 300.0
"""Seconds for a lane to become empty after the last fault."""


async def cancel_all(world: World, producer: Producer, done: asyncio.Event) -> None:
    """Cancel each message of that kind a moment after it was pushed; return when `done`, and all are."""
    client = open_client(world.topology.url)
    lane = Lane(client, PREFIX, "hook", ProviderOptions(type="webhook"), "operator")
    left = {push.number: push for push in world.plan.pushes if push.kind is Kind.CANCELLED}
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
                    tried.add(number)  # it may have been done
                    continue
                if answer == "cancelled":
                    world.cancelled.add(number)
                if answer == "cancelled" or (answer == "unknown" and (number in tried or not pushed.certain)):
                    del left[number]
            await asyncio.sleep(0.5)  # what is in flight now can be cancelled or is over then
        world.broken += [f"message {number} could not be cancelled" for number in left]
    finally:
        await client.aclose()


async def cancel_again(world: World) -> None:
    """A failover may have undone a cancellation; nothing else may."""
    client = open_client(world.topology.url)
    lane = Lane(client, PREFIX, "hook", ProviderOptions(type="webhook"), "operator")
    try:
        for push in world.plan.pushes:
            if push.kind is not Kind.CANCELLED or await lane.cancel(push.id, []) != "cancelled":
                continue
            # Where an answer was lost it may have come into its lane only after it was asked for.
            if push.number in world.cancelled and not world.topology.acknowledged_by:
                world.broken.append(f"message {push.number} had been cancelled, and waited again")
    finally:
        await client.aclose()


async def resume_again(world: World) -> None:
    """A failover may have undone a resume; nothing else may. An operator sees it in `relay status`."""
    client = open_client(world.topology.url)
    try:
        for provider in PROVIDERS:
            lane = Lane(client, PREFIX, provider, ProviderOptions(type=""), "operator")
            if not await client.hexists(lane.keys.part("control"), "paused"):
                continue
            if not world.topology.acknowledged_by:
                world.broken.append(f"the lane of {provider} had been resumed, and is paused again")
            finished = await world.command("resume", provider)
            if finished.code:
                world.broken.append(f"relay resume: {finished.err[-500:]}")
    finally:
        await client.aclose()


async def retry_dead(world: World) -> None:
    """The provider has been mended: its dead letters are sent again."""
    world.receivers.by_name["mending"].mended = True
    for _ in range(20):
        world.retried += 1
        finished = await world.command("dead", "retry", "mending")
        if finished.code == 0:
            return
        await asyncio.sleep(0.5)  # Redis may be in trouble for a moment
    world.broken.append(f"relay dead retry: {finished.err[-500:]}")


async def until_empty(world: World) -> None:
    """Return when all is empty and all dead workers are recovered; with a note, if that does not come."""
    client = open_client(world.topology.url)
    deadline = time.monotonic() + EMPTY_TIMEOUT
    try:
        while True:
            left = ["Redis did not answer"]
            with suppress(StoreError):
                left = await _left(client)
            if not left or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)  # the workers are other processes: only Redis tells what is left
    finally:
        await client.aclose()
    world.broken += [f"not empty after {EMPTY_TIMEOUT:g} s: {what}" for what in left]


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


async def stop_all(world: World) -> None:
    """An orderly end of every host."""
    for trouble in await asyncio.gather(*(host.stop() for host in world.hosts.values())):
        if trouble:
            world.broken.append(f"at the end: {trouble}")
