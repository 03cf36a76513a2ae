"""A worker knows for how long nobody can have taken it for dead."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from relay.engine.heartbeat import Heartbeat, HeartbeatTuning
from relay.store.fleet import Fleet, WorkerInfo

WORKER = WorkerInfo("w1", "host", "", 1, "1.0", 0.0)


async def test_a_worker_that_beats_holds_its_lease(redis: Redis) -> None:
    beating = Heartbeat(Fleet(redis, "relay"), WORKER)
    await beating.beat()
    claimed = time.monotonic()
    await beating.beat()
    assert beating.lease_valid_since(claimed)


async def test_claims_from_before_the_lease_ended_are_no_longer_valid(redis: Redis) -> None:
    fleet = Fleet(redis, "relay")
    beating = Heartbeat(fleet, WORKER)
    await beating.beat()
    claimed = time.monotonic()
    await fleet.leave("w1")
    await beating.beat()
    assert not beating.lease_valid_since(claimed)
    assert beating.lease_valid_since(time.monotonic()), "but a claim from now on is"


async def test_a_beat_that_was_answered_too_late_holds_nothing(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer waited somewhere, and the lease ran out meanwhile."""
    beating = Heartbeat(Fleet(redis, "relay"), WORKER, tuning=HeartbeatTuning(lease=0.05))
    await beating.beat()
    await redis.client_pause(150)
    await beating.beat()
    assert not beating.lease_valid_since(time.monotonic())
