"""The socket between a supervisor and a worker."""

from __future__ import annotations

import asyncio
import socket

from relay.admin.health import Health
from relay.engine.link import Link, Orders, first_orders
from relay.settings.snapshot import Snapshot
from relay.store.deployment import Deployment


async def test_a_large_configuration_and_reports_pass_both_ways() -> None:
    ours, theirs = socket.socketpair()
    supervisor = await Link.open(ours, Health)
    orders = Orders(Snapshot("relay.yaml", "x" * 3_000_000, {"secret": b"\xff"}), Deployment("host-1", 2))
    supervisor.send(orders)
    assert await asyncio.to_thread(first_orders, theirs) == orders
    worker = await Link.open(theirs, Orders)
    health = Health(worker="w", pid=1, settings="abc", failures={"recovery": 2})
    worker.send(health)
    assert await anext(supervisor.frames()) == health
    supervisor.close()
    assert [frame async for frame in worker.frames()] == []
    worker.send(health)  # nobody reads it
    worker.close()


async def test_a_supervisor_that_reads_nothing_costs_a_worker_no_memory() -> None:
    ours, theirs = socket.socketpair()
    worker = await Link.open(theirs, Orders)
    health = Health(worker="w" * 1000, pid=1, settings="abc")
    for _ in range(5_000):
        worker.send(health)
        await asyncio.sleep(0)
    received = 0
    ours.setblocking(False)
    try:
        while chunk := ours.recv(1 << 20):
            received += len(chunk)
    except BlockingIOError:
        pass
    assert 0 < received < 2_000_000
    worker.close()
    ours.close()
