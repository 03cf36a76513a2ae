"""Keys of a wrong type: a script fails before it moves anything, and works once the key is repaired."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.errors import StoreError
from relay.message import Message
from relay.message.fan_out import FanOut
from relay.outcome import Delivered, Rejected, Retry, Unregistered
from relay.store import dead
from relay.store.claims import Claimed, Expansion
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.items import Malformed, Refusal
from relay.store.keys import LANE_PARTS
from relay.store.queue import Ack, Limits, Queue
from relay.store.record import unpack
from testing.builders import a_lane, a_message, options, plain_message
from testing.redis_server import RedisServer
from testing.streams import entries_of

OPTIONS: dict[str, Any] = {"dedup_window": 600.0, "max_backlog": 1000}
GROUP_PARTS = tuple(part for part in LANE_PARTS if part.startswith(("waiting", "rotation", "groups")))


@pytest.fixture(scope="module")
def url(newest_redis_server: RedisServer) -> str:
    return newest_redis_server.url


async def spoil(redis: Redis, key: str, kind: str) -> None:
    """Put a value of another type at a key; `repair` brings the old one back."""
    if await redis.exists(key):
        await redis.rename(key, "{test}saved")
    if kind == "stream":
        await redis.xadd(key, {"a": "b"})
    else:
        await redis.set(key, "text")


async def repair(redis: Redis, key: str) -> None:
    await redis.delete(key)
    if await redis.exists("{test}saved"):
        await redis.rename("{test}saved", key)


def a_fan_out(text: str, targets: int = 3) -> FanOut:
    message = msgspec.structs.replace(
        a_message(text, reply_to="receipts:1"), targets=targets, target_field="to"
    )
    chunks = [msgspec.json.encode([f"{text}{number}"]) for number in range(targets)]
    return FanOut(message, chunks, 1)


class Scene:
    """A lane in which every key holds something, and one call of one script."""

    def __init__(self, redis: Redis, group: str = "") -> None:
        """With a `group`, the lane has groups, and most messages are in this one."""
        self.redis = redis
        self.group = group
        fields = {**OPTIONS, "groups": {"concurrency": 6}} if group else OPTIONS
        self.lane = a_lane(redis, **fields)
        self.policy = Policy(options(**fields))
        self.claimed = Claimed("", None, [])
        self.dead: list[str] = []

    def plain(self, text: str, **fields: Any) -> Message:
        return plain_message(text, group=self.group, **fields)

    def named(self, text: str, **fields: Any) -> Message:
        return a_message(text, group=self.group, **fields)

    async def expand(self, expansion: Expansion) -> bool:
        group_of = (lambda _: self.group) if self.group else None
        return await self.lane.expand(expansion, group_of) is not None

    async def set(self) -> None:
        await self.redis.flushall()
        lane = self.lane
        await lane.enqueue([self.plain("first"), self.plain("second", priority="high")])
        rejected = (await lane.claim(1)).claims
        await lane.settle([self.policy.settle(claim, Rejected("no", 400)) for claim in rejected])
        await lane.enqueue([a_fan_out("early")])
        await lane.claim(10)
        await lane.release()
        await lane.enqueue(
            [
                self.plain("plain"),
                self.named("named", reply_to="receipts:1"),
                self.named("older", collapse_key="k", reply_to="receipts:1"),
                self.named("one", ordering_key="o"),
                self.named("two", ordering_key="o"),
                self.plain("low", priority="low"),
                self.plain("due"),
            ]
        )
        if self.group:
            popped: Any = await self.redis.zpopmax(lane.keys.part("waiting:normal"))
            ticket: Any = popped[0][0][-16:]
        else:
            ticket = await self.redis.rpop(lane.keys.part("ready:normal"))
        await self.redis.zadd(lane.keys.part("due"), {ticket: 1})
        self.claimed = await lane.claim(6)
        self.dead = [entry.decode() for entry, _ in await entries_of(self.redis, lane.keys.part("dead"))]
        await self.redis.rpush("{test}queue", "straight", "behind")

    async def end(self) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """All that is delivered from now on or is dead, and all receipts."""
        await self.lane.release()
        delivered = Counter[str]()
        for _ in range(30):
            due: list[Any] = await self.redis.zrange(self.lane.keys.part("due"), 0, -1)
            for ticket in due:
                await self.redis.zadd(self.lane.keys.part("due"), {ticket: 1})
            claimed = await self.lane.claim(50)
            for expansion in claimed.expansions:
                await self.expand(expansion)
            delivered.update(
                claim.message.payload.get("to", claim.message.id if claim.message.named else "")
                or claim.message.payload["text"]
                for claim in claimed.claims
            )
            entries = [self.policy.settle(claim, Delivered()) for claim in claimed.claims]
            await self.lane.settle(entries)
        assert await self.lane.size() == 0, "nothing is stuck"
        for _, fields in await entries_of(self.redis, self.lane.keys.part("dead")):
            record = fields.get(b"record")
            delivered["dead:" + (str(unpack(record).payload) if record else fields[b"raw"].decode())] += 1
        receipts = Counter[tuple[str, str]]()
        for _, fields in await entries_of(self.redis, self.lane.keys.part("outbox")):
            entry = msgspec.msgpack.decode(fields[b"letter"])
            receipts[(entry[2], entry[3])] += 1
        return delivered, receipts


async def enqueue_plain(scene: Scene) -> None:
    await scene.lane.enqueue([scene.plain("new"), scene.plain("newer")], "mark", "1")


async def enqueue_mixed(scene: Scene) -> None:
    items: list[Message | FanOut | Malformed | Refusal] = [
        scene.plain("new"),
        scene.named("named", reply_to="receipts:1"),
        scene.named("newer", collapse_key="k", reply_to="receipts:1"),
        scene.named("three", ordering_key="o", deliver_at=1.0),
        Malformed(b"raw", "no message", "q", "m", "receipts:1"),
        Refusal("r", "receipts:1", "no provider", "nobody"),
        a_fan_out("late"),
    ]
    await scene.lane.enqueue(items, "mark", "1")


def enqueue_directly(item: Message) -> Callable[[Scene], Awaitable[None]]:
    async def step(scene: Scene) -> None:
        queue = Queue(scene.redis, "relay", "q", "w1")
        staged = queue.keys.staged
        await scene.redis.delete(staged)
        await scene.redis.rpush(staged, "element")
        try:
            await scene.lane.enqueue_direct(item, queue, b"element")
        except StoreError:
            assert await scene.redis.lrange(staged, 0, -1) == [b"element"]
            raise
        assert not await scene.redis.exists(staged)

    return step


async def claim(scene: Scene) -> None:
    await scene.lane.claim(50)


def settle(*outcomes: Any) -> Callable[[Scene], Awaitable[None]]:
    async def step(scene: Scene) -> None:
        assert len(scene.claimed.claims) == 6
        entries = [
            scene.policy.settle(claim, outcomes[index % len(outcomes)])
            for index, claim in enumerate(scene.claimed.claims)
        ]
        await scene.lane.settle(entries)

    return step


async def hand_back(scene: Scene) -> None:
    await scene.lane.release()


async def recover(scene: Scene) -> None:
    await scene.lane.recover("w1")


async def revive(scene: Scene) -> None:
    await dead.revive(scene.redis, "relay", scene.lane.provider, scene.dead)


async def cancel(scene: Scene) -> None:
    await scene.lane.cancel("early", ["w1"])


async def expand(scene: Scene) -> None:
    for expansion in scene.claimed.expansions:
        await scene.expand(expansion)


STEPS = {
    "enqueue plain": enqueue_plain,
    "enqueue mixed": enqueue_mixed,
    "enqueue directly": enqueue_directly(a_message("direct", collapse_key="direct")),
    "enqueue directly without a header": enqueue_directly(plain_message("direct")),
    "claim": claim,
    "settle successes": settle(Delivered()),
    "settle a mix": settle(Retry("503"), Rejected("no", 400), Unregistered("gone", "t")),
    "hand back": hand_back,
    "recover": recover,
    "revive": revive,
    "cancel": cancel,
    "expand": expand,
}


async def pause_group(scene: Scene) -> None:
    await scene.lane.pause_group("g")
    await scene.lane.resume_group("g")


@pytest.mark.parametrize("name", STEPS)
def test_a_lane_key_of_a_wrong_type_loses_and_doubles_nothing(url: str, name: str) -> None:
    asyncio.run(_spoil_each_key(url, STEPS[name]))


@pytest.mark.parametrize("name", [*STEPS, "pause a group"])
def test_a_key_of_groups_of_a_wrong_type_loses_and_doubles_nothing(url: str, name: str) -> None:
    asyncio.run(_spoil_each_key(url, {**STEPS, "pause a group": pause_group}[name], GROUP_PARTS, "g"))


async def _spoil_each_key(
    url: str, step: Callable[[Scene], Awaitable[None]], parts: Iterable[str] = LANE_PARTS, group: str = ""
) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        scene = Scene(redis, group)
        await scene.set()
        await step(scene)
        expected = await scene.end()
        keys = [scene.lane.keys.part(part) for part in parts]
        failures = 0
        for key in (*keys, scene.lane.keys.inflight("w1")):
            right = await _type_of(scene, key)
            for kind in ("string", "stream"):
                if kind == right:
                    continue
                await scene.set()
                await spoil(redis, key, kind)
                fails = await _fails(step, scene)
                failures += fails
                await repair(redis, key)
                if fails:
                    await step(scene)
                assert await scene.end() == expected, f"{key} was a {kind}"
        assert failures


async def _fails(step: Callable[[Scene], Awaitable[None]], scene: Scene) -> bool:
    try:
        await step(scene)
    except StoreError:
        return True
    return False


async def _type_of(scene: Scene, key: str) -> str:
    return "stream" if key.endswith((":dead", ":outbox", ":journal")) else ""


QUEUE_KEYS = [
    "q",
    "staged",
    "processing:w1",
    "sequence:w1",
    "rejected",
    "outstanding",
    "last_sequence",
    "deferred",
    "deferred:slow",
]
BIG = b"x" * 200


async def _play_queue(redis: Redis, spoiled: str, kind: str) -> list[bytes]:
    """Fetch, enqueue, defer and requeue, each with one key of a wrong type. Returns all elements."""
    await redis.flushall()
    queue = Queue(redis, "relay", "q", "w1", Limits(100, 100, 100))
    keys = queue.keys
    key = spoiled if spoiled == "q" else keys.base + spoiled

    async def spoiling(call: Callable[[], Awaitable[object]]) -> None:
        await spoil(redis, key, kind)
        try:
            await call()
            done = True
        except StoreError:
            done = False
        await repair(redis, key)
        if not done:
            await call()

    await redis.rpush(keys.staged, b"a", BIG, b"b")
    await redis.rpush("q", b"c", b"d", b"e")
    await spoiling(lambda: queue.fetch(most=4))
    await spoiling(queue.requeue)
    batch = await queue.fetch(most=4)
    done = Ack(batch.sequence, rejected=[("no", batch.elements[0])], deferred=[("slow", batch.elements[1])])
    handled = list(batch.elements[2:])
    await spoiling(lambda: queue.fetch(done, most=2))
    if batch.elements[0] in await redis.lrange(keys.processing("w1"), 0, -1):
        await queue.fetch(done, most=2)  # the first answer was an error
    await queue.requeue()
    found: list[Any] = [*handled, *await redis.lrange("q", 0, -1), *await redis.lrange(keys.staged, 0, -1)]
    found += await redis.lrange(keys.deferred_for("slow"), 0, -1)
    found += await redis.lrange(keys.processing("w1"), 0, -1)
    return found + [fields[b"raw"] for _, fields in await entries_of(redis, keys.rejected)]


@pytest.mark.parametrize("key", QUEUE_KEYS)
@pytest.mark.parametrize("kind", ["string", "stream"])
async def test_a_queue_key_of_a_wrong_type_loses_and_doubles_nothing(url: str, key: str, kind: str) -> None:
    if (key, kind) in {("rejected", "stream"), ("last_sequence", "string"), ("sequence:w1", "string")}:
        pytest.skip("the type that it has")
    async with Redis.from_url(url, protocol=2) as redis:
        assert sorted(await _play_queue(redis, key, kind)) == sorted([b"a", b"b", b"c", b"d", b"e", BIG])


async def _contents(redis: Redis) -> dict[bytes | str, bytes | None]:
    return {key: await redis.dump(key) for key in await redis.keys("*")}


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_fetch_that_fails_for_a_wrong_type_changes_nothing(url: str, key: str) -> None:
    """It forgets one fetch and returns the next: not one of them alone."""
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        queue = Queue(redis, "relay", "q", "w1")
        await redis.rpush("q", b"a", b"b", b"c", b"d")
        batch = await queue.fetch(most=2)
        await queue.waits.next(1)
        first, second = batch.elements
        done = Ack(batch.sequence, rejected=[("no", first)], deferred=[("slow", second)])
        spoiled = key if key == "q" else queue.keys.base + key
        await spoil(redis, spoiled, "string" if key in ("rejected", "outstanding") else "stream")
        before = await _contents(redis)
        with pytest.raises(StoreError):
            await queue.fetch(done)
        assert await _contents(redis) == before
        await repair(redis, spoiled)
        assert (await queue.fetch(done)).elements == [b"c", b"d"]
        assert [fields[b"raw"] for _, fields in await entries_of(redis, queue.keys.rejected)] == [b"a"]
        assert await redis.lrange(queue.keys.deferred_for("slow"), 0, -1) == [b"b"]


@pytest.mark.parametrize("part", ["dead", "control"])
async def test_an_element_that_is_too_large_is_filed_once_though_a_key_of_its_lane_has_a_wrong_type(
    url: str, part: str
) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        queue = Queue(redis, "relay", "q", "w1", Limits(100, 100, 100, "hook"))
        lane = a_lane(redis, name="hook")
        await redis.rpush("q", b"before")
        done = Ack((await queue.fetch()).sequence)
        await redis.rpush("q", BIG, b"a")
        await spoil(redis, lane.keys.part(part), "string")
        before = await _contents(redis)
        for _ in range(2):
            with pytest.raises(StoreError):
                await queue.fetch(done)
            assert await _contents(redis) == before
        await repair(redis, lane.keys.part(part))
        batch = await queue.fetch(done)
        assert (batch.elements, batch.too_large) == ([b"a"], [len(BIG)])
        letters = await entries_of(redis, lane.keys.part("dead"))
        assert [fields[b"raw"] for _, fields in letters] == [BIG]
        assert await redis.hget(lane.keys.part("control"), "malformed") == b"1"


async def test_a_worker_stays_in_the_fleet_if_a_key_of_the_fleet_has_a_wrong_type(url: str) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        fleet = Fleet(redis, "relay")
        info = WorkerInfo(worker="w1", host="h", host_id="", pid=1, version="1", started=0.0)
        await fleet.heartbeat(info)
        for key in (fleet.keys.gone, fleet.keys.profiles):
            await spoil(redis, key, "stream")
            for call in (lambda: fleet.heartbeat(info), lambda: fleet.leave("w1")):
                try:
                    await call()
                except StoreError:
                    assert await redis.zscore(fleet.keys.workers, "w1") is not None
            await repair(redis, key)


@pytest.mark.parametrize("kind", ["stream", "string"])
async def test_a_recovery_lock_that_is_no_lock_is_an_error(url: str, kind: str) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        fleet = Fleet(redis, "relay")
        await spoil(redis, fleet.keys.recovery_lock, kind)
        with pytest.raises(StoreError, match=r"relay:\{fleet\}:recovery is a .* that never ends"):
            await fleet.lock_recovery("w1", 2.0)
        await repair(redis, fleet.keys.recovery_lock)
        assert await fleet.lock_recovery("w1", 2.0)
        assert not await fleet.lock_recovery("w2", 2.0)


@pytest.mark.parametrize("command", ["xadd", "hset", "zrangebylex", "xtrim", "zlexcount"])
async def test_a_worker_without_the_right_to_a_command_does_not_join(url: str, command: str) -> None:
    """A script would fail halfway."""
    info = WorkerInfo(worker="w1", host="h", host_id="", pid=1, version="1", started=0.0)
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        await redis.acl_setuser(
            "limited",
            enabled=True,
            passwords=["+p"],
            keys=["relay:*"],
            commands=["+@all", f"-{command}"],
            reset=True,
        )
        limited = url.replace("redis://", "redis://limited:p@")
        try:
            async with Redis.from_url(limited, protocol=2) as client:
                with pytest.raises(StoreError, match=rf"(?i){command} is needed"):
                    await Fleet(client, "relay").heartbeat(info)
            assert not await redis.keys("*"), "it left nothing behind"
            await Fleet(redis, "relay").heartbeat(info)
        finally:
            await redis.acl_deluser("limited")


async def test_a_lane_without_rights_leaves_the_element_in_its_queue(url: str) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        await redis.acl_setuser(
            "limited",
            enabled=True,
            passwords=["+p"],
            keys=["relay:{q}:*", "q"],
            commands=["+@all"],
            reset=True,
        )
        queue = Queue(redis, "relay", "q", "w1")
        await redis.rpush(queue.keys.staged, "element")
        try:
            async with Redis.from_url(url.replace("redis://", "redis://limited:p@"), protocol=2) as client:
                with pytest.raises(StoreError, match=r"(?i)no permissions|NOPERM|access"):
                    await a_lane(client).enqueue_direct(a_message("a"), queue, b"element")
        finally:
            await redis.acl_deluser("limited")
        assert await redis.lrange(queue.keys.staged, 0, -1) == [b"element"]
