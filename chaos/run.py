"""One run: the world of a plan is made, the plan happens in it, and the ledger judges."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos.catalogue import HOSTS, KINDS, Planned, resource
from chaos.collect import collect
from chaos.evidence import Evidence, Window
from chaos.faults import REGISTRY
from chaos.faults.base import Skipped
from chaos.finish import (
    cancel_again,
    cancel_all,
    resume_again,
    retry_dead,
    stop_all,
    until_empty,
)
from chaos.ledger import Verdict, judge
from chaos.plan import Plan
from chaos.producer import Producer
from chaos.world import World, running

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a plan. `seconds` are those from the first push to the last end."""

    plan: Plan
    evidence: Evidence
    verdict: Verdict
    skipped: list[str]
    seconds: float


async def run(plan: Plan, folder: Path, say: Say = lambda line: None) -> Result:
    """Let a plan happen; logs and Redis's files stay in `folder`."""
    async with running(plan, folder) as world:
        begun = time.monotonic()
        producer = Producer(world.topology, world.receivers.by_name["fan"].url)
        pushed = asyncio.Event()
        keepers = [asyncio.create_task(world.hosts[name].keep()) for name in HOSTS]
        async with asyncio.TaskGroup() as group:
            group.create_task(_produce(producer, plan, pushed))
            group.create_task(cancel_all(world, producer, pushed))
            group.create_task(_break(world, say))
        say("all is pushed and healed; waiting until all has ended")
        await cancel_again(world)
        await resume_again(world)
        await until_empty(world)
        await retry_dead(world)
        await until_empty(world)
        seconds = time.monotonic() - begun
        for keeper in keepers:
            keeper.cancel()
        await stop_all(world)
        evidence = await collect(world)
        evidence.pushed, evidence.arrivals = producer.pushed, world.receivers.arrivals()
        evidence.windows, evidence.lags, evidence.retried = world.windows, world.lags, world.retried
        evidence.giants, evidence.unsure_giants = world.giants, world.unsure_giants
        evidence.broken = [*world.broken, *(death for host in world.hosts.values() for death in host.deaths)]
        evidence.log = [line for host in world.hosts.values() for line in host.unwanted()]
        return Result(plan, evidence, judge(evidence, world.setting), world.skipped, seconds)


async def _produce(producer: Producer, plan: Plan, pushed: asyncio.Event) -> None:
    await producer.run(plan.pushes)
    pushed.set()


async def _break(world: World, say: Say) -> None:
    """Make all faults of the plan, each at its time, and undo each."""
    start = time.monotonic()
    locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    async with asyncio.TaskGroup() as group:
        for planned in world.plan.faults:
            # The plan says when.
            await asyncio.sleep(max(0.0, start + planned.at - time.monotonic()))
            lock = locks[resource(planned.name, planned.target)]
            group.create_task(_one(world, planned, lock, say))


async def _one(world: World, planned: Planned, lock: asyncio.Lock, say: Say) -> None:
    async with lock:
        fault = REGISTRY[planned.name](world, planned)
        start = time.time()
        try:
            try:
                await fault.start()
                await asyncio.sleep(planned.seconds)  # how long it lasts
            finally:
                await fault.stop()
        except Skipped as why:
            world.skipped.append(f"{planned.name}: {why}")
            return
        except Exception as error:
            world.broken.append(f"the fault {planned} could not be made: {error!r}")
        end = time.time()
        say(f"{planned}{f' ({fault.note})' if fault.note else ''}")
        on = KINDS[planned.name].on
        world.windows.append(
            Window(
                planned.name,
                start,
                end,
                host=planned.target if on == "host" else "",
                provider=planned.target if on == "provider" else "",
                note=fault.note,
            )
        )
