"""One provider's lane: enqueue, claim, settle, and what operators do to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from relay.errors import StoreError
from relay.message import Message
from relay.message.fan_out import FanOut, expand
from relay.redis_client.client import REDIS_ERRORS, Argument, Client, describe, execute
from relay.settings.options import ProviderOptions
from relay.settings.values import Rates
from relay.store import codec
from relay.store.codec import Settled
from relay.store.keys import LaneKeys, batch_id_of
from relay.store.pause import ENDLESS, Pause
from relay.store.queue import Queue
from relay.store.record import has_header, is_plain, pack, unpack
from relay.store.script_text import TWO_FORMS
from relay.store.scripting import Script, script
from relay.store.settlement import Settlement
from relay.store.states import State

if TYPE_CHECKING:
    # Short commands use this module too, and structlog, which this imports, loads rich.
    from relay.redis_client.replication import Replicas

POISON = 3
"""A message that so many workers died with is a dead letter."""

PROBE_GRACE = 5.0
"""Seconds beyond a request's timeout after which a probe of a held lane counts as lost."""

_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Malformed:
    """An element that is no message: it is filed as a dead letter with its raw bytes.

    With an `id` and a `reply_to`, a receipt says so. `provider` is the one that the element names or gets.
    """

    raw: bytes
    reason: str
    queue: str
    id: str = ""
    reply_to: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The receipt of an element that belongs to no provider; any lane posts it."""

    id: str
    reply_to: str
    reason: str
    provider: str


Item = Message | FanOut | Malformed | Refusal
"""One element of a queue, as its lane gets it."""


def is_ordered(item: Item) -> bool:
    """Whether no item that was pushed later may overtake this one."""
    message = item.message if isinstance(item, FanOut) else item
    return isinstance(message, Message) and bool(message.ordering_key or message.collapse_key)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The effect of an enqueue, in numbers of messages."""

    in_turn: bool
    """Whether a claim that was asked for later has seen the messages."""
    accepted: int = 0
    duplicates: int = 0
    collapsed: int = 0
    dropped: int = 0
    malformed: int = 0
    ready: int = 0
    """All messages of the lane that may go now, as far as rate and holds allow."""
    outbox: int = 0
    """Receipts to forward, if this enqueue wrote some."""
    left: int = 0
    """Elements left in the queue, if this one came directly from it."""


class Claim(msgspec.Struct, frozen=True):
    """One message that this worker holds until it settles it.

    `fence` names the claim: after the message was handed on, nothing can be settled under it.
    """

    ticket: str
    fence: str
    message: Message
    deliveries: int = 0
    crashes: int = 0
    alone: bool = False
    again: int = 0
    """How often it was tried again after a refusal, because the provider accepted another message."""
    plain: bool = False
    """Whether the scripts need to know nothing of it when it was delivered."""

    def tries(self, *, attempts: int | None = None, alone: bool | None = None) -> str:
        """The counters to store when the message waits again; unchanged ones may be left out."""
        spent = self.message.attempts if attempts is None else attempts
        travels_alone = self.alone if alone is None else alone
        counters = f"{spent}:{self.deliveries + 1}:{self.crashes}:{int(travels_alone)}"
        return f"{counters}:{self.again}" if self.again else counters


@dataclass(frozen=True, slots=True)
class Expansion:
    """A chunk of a fan-out's targets (a JSON array) that this worker is to make messages of.

    `first` is the index of its first target among all of the message's.
    """

    ticket: str
    fence: str
    template: Message
    first: int
    chunk: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim. `wait` is in seconds; None: until something new arrives."""

    why: str
    wait: float | None
    claims: Sequence[Claim]
    expansions: Sequence[Expansion] = ()
    passed_over: int = 0
    """How many had expired or been taken back."""
    held: int = 0
    """Messages that this worker has in flight according to Redis; 0 if Redis did not count them."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A provider's wish to be left alone. `seconds` None: the lane's own, growing wait."""

    seconds: float | None
    reason: str


class Lane:
    """The lane of one provider as one worker sees it. Every method raises StoreError."""

    def __init__(
        self, client: Client, prefix: str, provider: str, options: ProviderOptions, worker: str
    ) -> None:
        self.provider = provider
        self.keys = LaneKeys.of(prefix, provider)
        self._client = client
        self._inflight = self.keys.inflight(worker)
        self._scripts: dict[str, tuple[Script, tuple[str, ...]]] = {}
        """By name: the form of the script for this lane, and its keys of the lane."""
        self._has_groups = options.group_rules is not None
        self._lifo = options.order == "lifo"
        self._is_limited = bool(options.max_backlog)
        self._policies(options)

    async def _run(self, name: str, own_keys: Sequence[str], *arguments: Argument) -> tuple[Any, bool]:
        """The reply of a script, and whether it ran before all commands that were sent later.

        `own_keys` are the keys that it declares besides those of the lane.
        """
        found = self._scripts.get(name)
        if found is None:
            form = script(f"{name}:groups" if self._has_groups and name in TWO_FORMS else name)
            found = self._scripts[name] = form, self.keys.of_script(form.lane_parts)
        form, keys = found
        return await form.run_in_turn(self._client, (*keys, *own_keys), *arguments)

    def _serve_left_groups(self) -> None:
        """Run the scripts for lanes with groups from now on: some are left from other options."""
        self._has_groups = True
        self._scripts.clear()

    def _policies(self, options: ProviderOptions) -> None:
        dedup_ms = round(options.dedup_window * 1000)
        self._enqueue_policy = _pack(
            {
                "lifo": self._lifo,
                "max_backlog": options.max_backlog or 0,
                "overflow": options.overflow,
                "dedup": dedup_ms,
                "group_backlog": (options.group_rules and options.group_rules.max_backlog) or 0,
                "groups": options.group_rules is not None,
            }
        )
        rates = _buckets(options.lane_rate, options.bursts())
        groups = _group_policy(options)
        self._claim_policy = _pack(
            {
                "lifo": self._lifo,
                "rates": rates,
                "groups": groups,
                "warmup": round(options.warmup * 1000),
                "adaptive": options.adaptive,
                "probe": round((options.timeout + PROBE_GRACE) * 1000),
                "shares": [options.shares.normal, options.shares.low],
            }
        )
        self._settle_policy = _pack(
            {
                "lifo": self._lifo,
                "dedup": dedup_ms,
                "failures": options.breaker.failures,
                "cooldown": round(options.breaker.cooldown * 1000),
                "share": options.breaker.share,
                "window": round(options.breaker.window * 1000),
                "groups": groups,
                "adaptive": options.adaptive,
                "gone_share": options.unregistered_share,
            }
        )

    async def enqueue(self, items: Iterable[Item], batch_id: str = "", sequence: str = "") -> Enqueued:
        """Enqueue items in their order. With a `batch_id`, the same `sequence` counts once."""
        reply, in_turn = await self._run(
            "enqueue", (), self._enqueue_policy, batch_id, sequence, *_arguments(items)
        )
        return Enqueued(in_turn, *reply)

    async def has_batch(self, batch_id: str, sequence: str) -> bool:
        """Whether the last batch with this id had this sequence number."""
        found = await self._command("HGET", self.keys.part("control"), batch_id)
        return found is not None and bytes(found) == sequence.encode()

    async def enqueue_direct(self, item: Item, queue: Queue, element: bytes) -> Enqueued | None:
        """Move an element that a wait has staged into this lane, in one script.

        Returns None if the element is no longer the first staged one, or if its order counts and earlier
        fetches may not be in their lanes yet. Not for a cluster.
        """
        return await self._enqueue_first(item, queue.keys.staged, queue, element)

    async def enqueue_deferred(self, item: Item, queue: Queue, element: bytes) -> Enqueued | None:
        """The same for the first of the elements that wait for this lane; earlier fetches do not matter."""
        return await self._enqueue_first(item, queue.keys.deferred_for(self.provider), queue, element)

    async def _enqueue_first(self, item: Item, source: str, queue: Queue, element: bytes) -> Enqueued | None:
        if isinstance(item, Message) and not self._is_limited and not has_header(item):
            reply, in_turn = await self._run(
                "take_headerless", (source, queue.name), element, item.priority, pack(item)
            )
            return None if reply is None else Enqueued(in_turn, accepted=1, left=reply[0], ready=reply[1])
        in_order = source == queue.keys.staged and is_ordered(item)
        reply, in_turn = await self._run(
            "take_one",
            (source, queue.name, queue.keys.outstanding),
            self._enqueue_policy,
            element,
            int(in_order),
            *_arguments([item]),
        )
        return None if reply is None else Enqueued(in_turn, *reply)

    async def wait_for_replica(self, replicas: Replicas) -> None:
        """In a cluster: return when a replica has what was written to this lane so far."""
        await replicas.wait_for_replica(self.keys.replicated)

    async def claim(self, wanted: int) -> Claimed:
        """Take up to `wanted` messages, as far as rate, pause and hold allow."""
        reply, _ = await self._run("claim", (self._inflight,), wanted, self._claim_policy)
        if reply[0] == b"groups":
            self._serve_left_groups()
            reply, _ = await self._run("claim", (self._inflight,), wanted, self._claim_policy)
        fence = str(reply[2])
        claims = [
            _claim(reply[index], fence, reply[index + 1], reply[index + 2])
            for index in range(6, len(reply), 3)
        ]
        parts = reply[3]
        expansions = [
            Expansion(
                parts[index].decode(), fence, unpack(parts[index + 1]), parts[index + 2], parts[index + 3]
            )
            for index in range(0, len(parts), 4)
        ]
        wait = None if reply[1] < 0 else reply[1] / 1_000_000
        return Claimed(
            reply[0].decode(), wait, claims, expansions, reply[4], reply[5] if len(reply) > 5 else 0
        )

    async def expand(self, expansion: Expansion, group_of: Callable[[Message], str] | None = None) -> bool:
        """Put the messages of a chunk of a fan-out into the lane; False where it is no longer ours.

        `group_of` names the group of each, if the lane has groups.
        """
        messages = expand(expansion.template, expansion.ticket, expansion.chunk, expansion.first)
        if group_of is not None:
            messages = [msgspec.structs.replace(message, group=group_of(message)) for message in messages]
        reply, _ = await self._run(
            "expand",
            (self._inflight,),
            int(self._lifo),
            expansion.ticket,
            expansion.fence,
            *(pack(message) for message in messages),
        )
        return bool(reply)

    async def settle(self, settlements: Sequence[Settlement], hold: Hold | None = None) -> Settled:
        """Apply outcomes. Repeating a call changes nothing."""
        state, milliseconds, reason = "", 0, ""
        if hold is not None:
            state, reason = State.THROTTLED.value, hold.reason
            milliseconds = 0 if hold.seconds is None else max(1, round(hold.seconds * 1000))
        entries, bodies = codec.encode(settlements)
        arguments: tuple[Argument, ...] = (
            self._settle_policy,
            entries,
            state,
            milliseconds,
            reason,
            *bodies,
        )
        reply, _ = await self._run("settle", (self._inflight,), *arguments)
        if reply == b"groups":
            self._serve_left_groups()
            reply, _ = await self._run("settle", (self._inflight,), *arguments)
        return codec.settled(reply)

    async def release(self, keep: Iterable[str] = ()) -> int:
        """Put all messages that this worker holds, except `keep`, back at the head of the lane."""
        return await self._release(self._inflight, "release", keep)

    async def recover(self, worker: str) -> int:
        """Put a dead worker's messages back at the head; one that killed several is a dead letter."""
        return await self._release(self.keys.inflight(worker), "crash", ())

    async def _release(self, inflight: str, mode: str, keep: Iterable[str]) -> int:
        total, left, kept = 0, 1, tuple(keep)
        while left:
            reply, _ = await self._run("release", (inflight,), self._claim_policy, mode, POISON, 500, *kept)
            released, dead, left = reply
            total += released + dead
        return total

    async def pause(self, pause: Pause = ENDLESS) -> None:
        """Hand out nothing, over the whole fleet, until `resume` or the end of the pause."""
        await self._command("HSET", self.keys.part("control"), *pause.to_control())

    async def resume(self) -> None:
        """Lift a pause, and any hold by a throttle, a breaker, refused credentials or missing targets.

        Suspects are tried once more.
        """
        await self._run("resume", (), int(self._lifo))

    async def pause_group(self, group: str, until: float = 0, by: str = "", reason: str = "") -> None:
        """Hand out no messages of a group, over the fleet, until `resume_group` or Unix time `until`."""
        await self._run("pause_group", (), self._claim_policy, group, round(until * 1000), by, reason)

    async def resume_group(self, group: str) -> bool:
        """Lift a pause, a hold, an open breaker or the end of a disabled group; False if there was none."""
        reply, _ = await self._run("resume_group", (), self._claim_policy, group)
        return bool(reply)

    async def forget_worker(self, worker: str, queues: Iterable[str]) -> None:
        """Forget the last fetches of a worker that is gone."""
        if batch_ids := [batch_id_of(worker, queue) for queue in queues]:
            await self._command("HDEL", self.keys.part("control"), *batch_ids)

    async def check_keys(self) -> None:
        """Raise StoreError if a key of the lane has a wrong type, or may not be used."""
        await self.cancel("", ())  # reads every key of the lane, and there is no such id

    async def cancel(self, message_id: str, workers: Iterable[str]) -> str:
        """Take a waiting message back: 'cancelled', 'in flight' or 'unknown'."""
        hashes = [self.keys.inflight(worker) for worker in workers]
        reply, _ = await self._run("cancel", hashes, message_id, int(self._lifo))
        return bytes(reply).decode()

    async def size(self) -> int:
        """Messages in the lane: waiting, delayed, parked and in flight, whoever holds them."""
        return int(await self._command("HLEN", self.keys.part("bodies")))

    async def in_flight(self, workers: Sequence[str]) -> list[int]:
        """How many messages each of these workers holds."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for worker in workers:
                    pipe.hlen(self.keys.inflight(worker))
                return list(await pipe.execute())
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error

    async def outbox_length(self) -> int:
        """The number of receipts and feedback entries that are not forwarded yet."""
        return int(await self._command("XLEN", self.keys.part("outbox")))

    async def _command(self, *words: str | int) -> Any:
        try:
            return await execute(self._client, *words)
        except REDIS_ERRORS as error:
            raise StoreError(f"{words[0]}: {describe(error)}") from error


def _buckets(rates: Rates, bursts: Sequence[int]) -> list[list[str | float]]:
    return [[str(rate), rate.per_second, burst] for rate, burst in zip(rates, bursts, strict=False)]


def _group_policy(options: ProviderOptions) -> dict[str, Any] | Literal[False]:
    """The rules of parts/groups.lua; times are in milliseconds."""
    rules = options.group_rules
    if rules is None:
        return False
    return {
        "rates": _buckets(rules.rate, rules.bursts()),
        "concurrency": rules.concurrency,
        "failures": rules.breaker.failures,
        "share": rules.breaker.share,
        "window": round(rules.breaker.window * 1000),
        "cooldown": round(rules.breaker.cooldown * 1000),
        "disable_after": round(rules.disable_after * 1000),
        "probe": round((options.timeout + PROBE_GRACE) * 1000),
    }


def _arguments(items: Iterable[Item]) -> list[str | bytes | int]:
    """The arguments of `enqueue.lua` for these items."""
    arguments: list[str | bytes | int] = []
    for item in items:
        if isinstance(item, Message):
            arguments += (item.priority, pack(item))
        elif isinstance(item, FanOut):
            arguments += ("f", pack(item.message), item.message.priority)
            arguments += (item.size, len(item.chunks), *item.chunks)
        elif isinstance(item, Refusal):
            arguments += ("n", item.reason, item.id, item.reply_to, item.provider)
        else:
            arguments += ("x", item.reason, item.queue, item.raw, item.id, item.reply_to)
    return arguments


def _claim(ticket: bytes, fence: str, record: bytes, tries: bytes) -> Claim:
    message, plain = unpack(record), is_plain(record)
    if not tries:
        return Claim(ticket.decode(), fence, message, plain=plain)
    attempts, deliveries, crashes, alone, *again = (int(part) for part in tries.split(b":"))
    if attempts:
        message = msgspec.structs.replace(message, attempts=attempts)
    return Claim(
        ticket.decode(), fence, message, deliveries, crashes, bool(alone), again[0] if again else 0, plain
    )
