"""The vitals that a worker publishes."""

from __future__ import annotations

from relay.engine.vitals import Flow, memory
from relay.store.vitals import QueueFlow


def test_a_flow_counts_the_last_seconds_and_the_share_of_a_minute() -> None:
    flow = Flow(0.0)
    assert flow.count(2.0, 0, 0) is None
    assert flow.count(4.0, 40, 0) == QueueFlow(10.0, 40, 0)
    for now in range(6, 64, 2):
        last = flow.count(float(now), 40 + 10 * (now - 4), now - 4)
    assert last == QueueFlow(10.0, 620, 58)
    # The first forty were taken more than a minute ago.
    assert flow.count(64.0, 640, 60) == QueueFlow(10.0, 600, 60)
    assert flow.count(90.0, 640, 60) == QueueFlow(0.0, 340, 34)
    assert flow.count(200.0, 640, 60) is None


def test_the_memory_of_a_process_is_that_of_the_kernel() -> None:
    assert 10_000_000 < memory() < 10_000_000_000
