"""Alerts on every installed Redis and on a cluster: one message each, whichever worker checks or fails."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from relay.engine.alerts import AlertLane, Alerts, AlertTuning
from relay.engine.policy import Policy
from relay.errors import StoreError
from relay.outcome import Delivered
from relay.redis_client.client import Client
from relay.redis_client.replication import Replicas
from relay.settings.models import AlertSettings, QueueSettings, Settings
from relay.store.alerts import Alert, AlertBook, AlertStore, firing
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.keys import FleetKeys, LaneKeys
from relay.store.lane import Lane
from testing.builders import options, plain_message
from testing.fake_provider import FakeProvider

LANE = LaneKeys.of("relay", "test")
TUNING = AlertTuning(interval=0.002, outage=60.0)


def configured(**rules: Any) -> Settings:
    alerts = AlertSettings(provider="alerts", after=0.0, **rules)
    providers = {"test": options(), "alerts": options()}
    return Settings(queues=[QueueSettings(name="q", provider="test")], providers=providers, alerts=alerts)


class ForgetfulLane(AlertLane):
    """The lane takes the messages, and its answer is lost."""

    async def put(self, book: AlertBook) -> None:
        await super().put(book)
        raise StoreError("the answer is lost")


class Fixture:
    """The workers of a fleet that check for alerts, and the lane of the alerts."""

    def __init__(self, redis: Client, settings: Settings) -> None:
        self.redis = redis
        self.settings = settings
        self.fleet = Fleet(redis, "relay")
        self.lane = Lane(redis, "relay", "alerts", options(), "w1")

    async def join(self, *workers: str, started: float = 0.0) -> None:
        for worker in workers:
            info = WorkerInfo(worker, "h", "", 1, "1", started, lanes=("test", "alerts"), queues=("q",))
            await self.fleet.heartbeat(info)

    async def check(self, worker: str = "w1", kind: type[AlertLane] = AlertLane) -> bool:
        """Check once, as soon as no other worker holds the lock."""
        own = Lane(self.redis, "relay", "alerts", options(), worker)
        lane = kind(own, FakeProvider(options()), Replicas(self.redis))
        alerts = Alerts(self.redis, self.settings, self.fleet, worker, lane, tuning=TUNING)
        async with asyncio.timeout(30):
            while not await alerts.check(lane):
                await asyncio.sleep(0.001)
        return True

    async def sent(self) -> list[tuple[str, str, str]]:
        """Deliver the messages of the alerts. Returns the kind, the subject and the status of each."""
        claims = (await self.lane.claim(100)).claims
        await self.lane.settle([Policy(options()).settle(claim, Delivered()) for claim in claims])
        found = [claim.message.payload for claim in claims]
        return [(each["alert"], each["provider"] or each["queue"], each["status"]) for each in found]

    async def refuse(self, reason: str = "401 bad key") -> None:
        await self.redis.hset(LANE.part("control"), mapping={"state": "unauthorised", "reason": reason})

    async def accept(self) -> None:
        await self.redis.hdel(LANE.part("control"), "state", "reason")


@pytest.fixture
async def fleet(redis: Client) -> Fixture:
    fixture = Fixture(redis, configured())
    await fixture.join("w1", "w2")
    return fixture


async def test_an_alert_is_sent_once_by_many_workers_when_it_begins_and_when_it_is_over(
    fleet: Fixture,
) -> None:
    await fleet.check()
    assert await fleet.sent() == []
    await fleet.refuse()
    await asyncio.gather(*(fleet.check(worker) for worker in ("w1", "w2", "w3", "w1", "w2")))
    assert await fleet.sent() == [("unauthorised", "test", "firing")]
    (alert,) = await firing(fleet.redis, "relay")
    assert (alert.alert, alert.why) == ("unauthorised", "401 bad key")
    await fleet.accept()
    await asyncio.gather(*(fleet.check(worker) for worker in ("w1", "w2", "w3", "w1", "w2")))
    assert await fleet.sent() == [("unauthorised", "test", "resolved")]
    assert await firing(fleet.redis, "relay") == []


async def test_an_alert_whose_enqueue_had_no_answer_is_sent_once(fleet: Fixture) -> None:
    await fleet.refuse()
    with pytest.raises(StoreError, match="the answer is lost"):
        await fleet.check("w1", ForgetfulLane)
    assert await fleet.sent() == [("unauthorised", "test", "firing")]
    await fleet.check("w2")
    await fleet.accept()
    with pytest.raises(StoreError, match="the answer is lost"):
        await fleet.check("w1", ForgetfulLane)
    await fleet.check("w2")
    assert await fleet.sent() == [("unauthorised", "test", "resolved")]


async def test_an_end_that_follows_an_enqueue_without_an_answer_repeats_no_begin(fleet: Fixture) -> None:
    await fleet.refuse()
    with pytest.raises(StoreError, match="the answer is lost"):
        await fleet.check("w1", ForgetfulLane)
    assert await fleet.sent() == [("unauthorised", "test", "firing")]
    await fleet.accept()
    await fleet.check("w2")
    assert await fleet.sent() == [("unauthorised", "test", "resolved")]


async def test_an_alert_waits_for_a_lane_that_refuses_it(fleet: Fixture) -> None:
    bodies = LaneKeys.of("relay", "alerts").part("bodies")
    await fleet.redis.set(bodies, "another program's")
    await fleet.refuse()
    for _ in range(3):
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await fleet.check()
    await fleet.redis.delete(bodies)
    await fleet.check()
    assert await fleet.sent() == [("unauthorised", "test", "firing")]


async def test_a_lost_or_foreign_state_of_alerts_does_not_stop_them(fleet: Fixture) -> None:
    await fleet.refuse()
    await fleet.check()
    assert len(await fleet.sent()) == 1
    for value in (b"no JSON", b"[1]", b'{"alerts": [{"alert": "x", "why": "a\\u001b[2J"}]}'):
        await fleet.redis.set(FleetKeys("relay").alerts, value)
        assert all(alert.why.isprintable() for alert in await firing(fleet.redis, "relay"))
        await fleet.check()
    assert [alert.alert for alert in await firing(fleet.redis, "relay")] == ["unauthorised"]
    sent = await fleet.sent()
    assert set(sent) == {("unauthorised", "test", "firing")}


async def test_the_first_worker_that_comes_back_reports_the_time_without_workers(redis: Client) -> None:
    fleet = Fixture(redis, configured())
    now = await fleet.fleet.now()
    await AlertStore(redis, "relay").replace(b"", AlertBook(checked=now - 300))
    await fleet.join("w1", started=now - 5)
    await fleet.check()
    await fleet.check()
    assert await fleet.sent() == [("no_worker", "", "firing"), ("no_worker", "", "resolved")]


async def test_workers_without_alerts_forget_the_last_check(redis: Client) -> None:
    """The next worker with alerts would report that no worker was running."""
    store = AlertStore(redis, "relay")
    await store.replace(b"", AlertBook(checked=1000.0))
    await Alerts(redis, configured(), Fleet(redis, "relay"), "w1", None).run()
    assert (await store.read())[1].checked == 0.0


async def test_messages_that_no_worker_serves_or_reads_fire_alerts(redis: Client) -> None:
    fleet = Fixture(redis, configured())
    info = WorkerInfo("w1", "h", "", 1, "1", 0.0, lanes=("alerts",), queues=("other",))
    await fleet.fleet.heartbeat(info)
    await Lane(redis, "relay", "test", options(), "w1").enqueue([plain_message("1")])
    await redis.rpush("q", "{}")
    await fleet.check()
    assert sorted(await fleet.sent()) == [("no_worker", "test", "firing"), ("queue_unread", "q", "firing")]
    await redis.delete("q")
    await fleet.join("w1")
    await fleet.check()
    assert sorted(await fleet.sent()) == [
        ("no_worker", "test", "resolved"),
        ("queue_unread", "q", "resolved"),
    ]


async def test_many_dead_letters_within_an_hour_fire_an_alert(redis: Client) -> None:
    fleet = Fixture(redis, configured(dead=3))
    await fleet.join("w1")
    now = int(await fleet.fleet.now())
    for _ in range(5):
        await redis.xadd(LANE.part("dead"), {"reason": "400"})
    await redis.hset(LANE.statistics("hour", now // 3600 * 3600), "o:failed", "4")
    await redis.hset(LANE.statistics("minute", now // 60 * 60 - 7200), "o:failed", "400")
    await fleet.check()
    assert await fleet.sent() == []
    await redis.hset(LANE.statistics("minute", now // 60 * 60), "o:failed", "4")
    await fleet.check()
    assert await fleet.sent() == [("dead_letters", "test", "firing")]


async def test_an_alert_about_the_provider_of_the_alerts_is_shown_and_not_sent(fleet: Fixture) -> None:
    control = LaneKeys.of("relay", "alerts").part("control")
    await fleet.redis.hset(control, mapping={"state": "unauthorised", "reason": "404"})
    await fleet.check()
    assert [alert.provider for alert in await firing(fleet.redis, "relay")] == ["alerts"]
    await fleet.redis.hdel(control, "state", "reason")
    assert await fleet.sent() == []


async def test_an_alert_about_a_group_stays_while_it_is_disabled_among_very_many_groups(
    redis: Client,
) -> None:
    """An overview has only a sample of many groups."""
    fleet = Fixture(redis, configured())
    await fleet.join("w1")
    states: dict[Any, Any] = {f"g{number}": msgspec.msgpack.encode({"failures": 1}) for number in range(3000)}
    await redis.hset(LANE.part("groups"), mapping={**states, "acme": msgspec.msgpack.encode({"disabled": 1})})
    alert = Alert(alert="group_disabled", provider="test", group="acme", since=1.0, seen=1.0, firing=True)
    await AlertStore(redis, "relay").replace(b"", AlertBook(alerts=(alert,)))
    for _ in range(3):
        await fleet.check()
    assert await fleet.sent() == []
    await redis.hset(LANE.part("groups"), "acme", states["g1"])
    await fleet.check()
    await fleet.check()
    assert await fleet.sent() == [("group_disabled", "test", "resolved")]
