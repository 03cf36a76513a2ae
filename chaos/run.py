"""One run: build the harness, execute the plan, and judge the evidence."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos.catalogue import HOSTS, KINDS, Planned, resource
from chaos.collect import collect
from chaos.drain import (
    cancel_again,
    cancel_all,
    resume_again,
    retry_dead,
    stop_all,
    until_empty,
)
from chaos.evidence import Evidence, Window
from chaos.faults import REGISTRY
from chaos.faults.base import Skipped
from chaos.harness import Harness, running
from chaos.ledger import Verdict, judge
from chaos.plan import Plan
from chaos.producer import Producer

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a plan. `seconds` is the time from the first push to the last outcome."""

    plan: Plan
    evidence: Evidence
    verdict: Verdict
    skipped: list[str]
    seconds: float


async def run(plan: Plan, folder: Path, say: Say = lambda line: None) -> Result:
    """Execute a plan. Logs and Redis's files stay in `folder`."""
    async with running(plan, folder) as harness:
        started = time.monotonic()
        producer = Producer(harness.topology, harness.receivers.urls)
        pushed = asyncio.Event()
        keepers = [asyncio.create_task(harness.hosts[name].keep()) for name in HOSTS]
        async with asyncio.TaskGroup() as group:
            group.create_task(_produce(producer, plan, pushed))
            group.create_task(cancel_all(harness, producer, pushed))
            group.create_task(_inject_all(harness, say))
        say("all messages are pushed and all faults are over; waiting until all messages have ended")
        await cancel_again(harness)
        await resume_again(harness)
        await until_empty(harness)
        await retry_dead(harness)
        await until_empty(harness)
        seconds = time.monotonic() - started
        for keeper in keepers:
            keeper.cancel()
        await stop_all(harness)
        evidence = await collect(harness)
        evidence.pushed, evidence.arrivals = producer.pushed, harness.receivers.arrivals()
        evidence.windows, evidence.lags, evidence.retried = harness.windows, harness.lags, harness.retried
        evidence.giants, evidence.unsure_giants = harness.giants, harness.unsure_giants
        evidence.broken = [
            *harness.broken,
            *(death for host in harness.hosts.values() for death in host.deaths),
        ]
        evidence.log = [line for host in harness.hosts.values() for line in host.unwanted()]
        return Result(plan, evidence, judge(evidence, harness.configuration), harness.skipped, seconds)


async def _produce(producer: Producer, plan: Plan, pushed: asyncio.Event) -> None:
    await producer.run(plan.pushes)
    pushed.set()


async def _inject_all(harness: Harness, say: Say) -> None:
    """Inject and undo all faults of the plan, each at its time."""
    start = time.monotonic()
    locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    async with asyncio.TaskGroup() as group:
        for planned in harness.plan.faults:
            # The plan determines the time.
            await asyncio.sleep(max(0.0, start + planned.at - time.monotonic()))
            lock = locks[resource(planned.name, planned.target)]
            group.create_task(_inject(harness, planned, lock, say))


async def _inject(harness: Harness, planned: Planned, lock: asyncio.Lock, say: Say) -> None:
    async with lock:
        fault = REGISTRY[planned.name](harness, planned)
        start = time.time()
        try:
            try:
                await fault.start()
                await asyncio.sleep(planned.seconds)  # the duration of the fault
            finally:
                await fault.stop()
        except Skipped as why:
            harness.skipped.append(f"{planned.name}: {why}")
            return
        except Exception as error:
            harness.broken.append(f"the fault {planned} could not be injected: {error!r}")
        end = time.time()
        say(f"{planned}{f' ({fault.note})' if fault.note else ''}")
        on = KINDS[planned.name].on
        harness.windows.append(
            Window(
                planned.name,
                start,
                end,
                host=planned.target if on == "host" else "",
                provider=planned.target if on == "provider" else "",
                note=fault.note,
            )
        )
