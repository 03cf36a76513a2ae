"""One provider's lane: enqueue, claim, settle, and the actions of operators."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import msgspec

from relay.errors import StoreError
from relay.message import Message
from relay.message.fan_out import expand
from relay.redis_client.client import REDIS_ERRORS, Argument, Client, describe, execute
from relay.redis_client.topology import Topology
from relay.settings.options import ProviderOptions
from relay.store import codec, dead
from relay.store.claims import Claim, Claimed, Expansion, Hold, Taken, decode_claimed
from relay.store.codec import Settled
from relay.store.dead import DeadLetter, Replayed
from relay.store.items import Enqueued, Item, encode_headerless, encode_items, is_ordered
from relay.store.keys import LaneKeys, batch_id_of, flush_of
from relay.store.large_bodies import LargeBodies, are_large
from relay.store.pause import ENDLESS, Pause
from relay.store.policies import policies, without_limits
from relay.store.queue import Queue
from relay.store.record import has_header, pack, pack_targets
from relay.store.script_text import TWO_FORMS
from relay.store.scripting import Call, Script, script
from relay.store.settlement import Settlement
from relay.store.short_settles import ShortSettles
from relay.store.states import State

if TYPE_CHECKING:
    # Short commands use this module too, and structlog, which this imports, loads rich.
    from relay.redis_client.replication import Replicas

POISON = 3
"""The number of crashes after which a message becomes a dead letter."""


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
        self._policies = policies(options)
        self._large = LargeBodies(
            client,
            self.keys,
            self._inflight,
            self._run,
            claims=bool(self._policies.plain_claims and not self._has_groups),
        )
        self._short_settles = ShortSettles(self._inflight, self._run, lifo=self._lifo)

    def _run(
        self, name: str, own_keys: Sequence[str], *arguments: Argument
    ) -> Coroutine[Any, Any, tuple[Any, bool]]:
        """The reply of a script, and whether it ran before all commands that were sent later.

        `own_keys` are the keys that it declares besides those of the lane.
        """
        form, keys = self._script(name)
        return form.run_in_turn(self._client, (*keys, *own_keys), *arguments)

    def _script(self, name: str) -> tuple[Script, tuple[str, ...]]:
        """Return the form of a script for this lane, and its keys of the lane."""
        found = self._scripts.get(name)
        if found is None:
            form = script(f"{name}:groups" if self._has_groups and name in TWO_FORMS else name)
            found = self._scripts[name] = form, self.keys.of_script(form.lane_parts)
        return found

    def _serve_left_groups(self) -> None:
        """Run the scripts for lanes with groups from now on: some are left from other options."""
        self._has_groups = True
        self._scripts.clear()

    async def enqueue(self, items: Iterable[Item], batch_id: str = "", sequence: str = "") -> Enqueued:
        """Enqueue items in their order. With a `batch_id`, the same `sequence` counts once."""
        items = list(items)
        if not self._has_groups and not self._is_limited and (plain := encode_headerless(items)):
            if are_large(plain):
                messages = [item for item in items if isinstance(item, Message)]
                enqueued = await self._large.enqueue(messages, plain, batch_id, sequence)
                if enqueued is not None:
                    return enqueued
            reply, in_turn = await self._run("enqueue_plain", (), batch_id, sequence, *plain)
            return Enqueued(in_turn, accepted=reply[0], ready=reply[1])
        encoded = encode_items(items)
        reply, in_turn = await self._run("enqueue", (), self._policies.enqueue, batch_id, sequence, *encoded)
        return Enqueued(in_turn, *reply)

    async def has_batch(self, batch_id: str, sequence: str) -> bool:
        """Return whether the last batch with this id had this sequence number."""
        found = await self._command("HGET", self.keys.part("control"), batch_id)
        return found is not None and bytes(found) == sequence.encode()

    async def last_batch(self, batch_id: str) -> int:
        """Return the sequence number of the last batch with this id; 0 if there was none."""
        found = await self._command("HGET", self.keys.part("control"), batch_id)
        return int(found) if found and bytes(found).isdigit() else 0

    async def enqueue_direct(self, item: Item, queue: Queue, element: bytes) -> Enqueued | None:
        """Move an element that a wait has staged into this lane, in one script.

        Returns None if the element is no longer the first staged one, or if its order counts and earlier
        elements may not be in their lanes yet. Not for a cluster.
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
            (source, queue.name, queue.keys.outstanding, queue.keys.deferred_for(self.provider)),
            self._policies.enqueue,
            element,
            int(in_order),
            *encode_items([item]),
        )
        return None if reply is None else Enqueued(in_turn, *reply)

    def claims_directly(self, item: Item) -> TypeGuard[Message]:
        """Return whether `take` may move an item into flight."""
        return (
            bool(self._policies.plain_claims)
            and not self._has_groups
            and not self._is_limited
            and isinstance(item, Message)
            and not has_header(item)
        )

    async def take(self, message: Message, queue: Queue, element: bytes) -> Taken | None:
        """Move an element that a wait has staged straight into flight, in one script; the next wait may begin
        with it (`Waits.run_before`).

        Returns None if the element is no longer the first staged one, or if anything waits in the lane or it
        has a state. Only for messages that `claims_directly` admits. Not for a cluster.
        """
        own = self._inflight, queue.keys.staged, queue.name
        form, keys = self._script("take_into_flight")
        arguments = element, message.priority, pack(message)
        reply = await queue.waits.run_before(form, (*keys, *own), *arguments)
        if reply is None:
            return None
        left, ticket, token = reply.decode().split()
        return Taken(Claim(ticket, token, message, headerless=True), int(left))

    async def enqueue_into_flight(
        self, messages: Sequence[Message], batch_id: str, sequence: str
    ) -> Sequence[Claim] | None:
        """Put a batch straight into flight, in one script. Returns the claims: none of a repeated batch.

        Returns None if anything waits in the lane, if it has a state, or if the messages are large. Only for
        messages that `claims_directly` admits. `ManyLanes` does the same for several lanes.
        """
        call = self.into_flight(messages, batch_id, sequence)
        if call is None:
            return None
        reply, _ = await self._run("enqueue_into_flight", (self._inflight,), *call.arguments)
        return self.claims_in_flight(reply, messages)

    def into_flight(self, messages: Sequence[Message], batch_id: str, sequence: str) -> Call | None:
        """Return the call of that script; None if the messages are large."""
        encoded = encode_headerless(messages)
        if encoded is None or are_large(encoded):
            return None
        _, keys = self._script("enqueue_into_flight")
        return Call((*keys, self._inflight), (batch_id, sequence, *encoded))

    @staticmethod
    def claims_in_flight(reply: Any, messages: Sequence[Message]) -> Sequence[Claim] | None:
        """Decode its reply."""
        if not reply:
            return reply if reply is None else ()
        token = reply[0].decode()
        return [
            Claim(ticket.decode(), token, message, headerless=True)
            for ticket, message in zip(reply[1:], messages, strict=True)
        ]

    async def replay(self, item: Item, letter: DeadLetter) -> Replayed:
        """Put an item into this lane instead of a dead letter of any stream: once, even if others try it,
        too."""
        policy, items = without_limits(self._policies.enqueue), encode_items([item])
        if letter.stream == self.keys.part("dead") or Topology.of(self._client).is_one:
            reply, _ = await self._run("replay", (letter.stream,), policy, letter.entry, *items)
            return Replayed(bytes(reply).decode())
        # The letter is on another node of the cluster. The lock keeps others away, and if this process dies
        # in between, the batch id shows the next one that the message is there.
        batch_id = f"batch:dead:{letter.stream}:{letter.entry}"
        if (
            not await dead.lock(self._client, letter)
            or await dead.read_complete(self._client, letter) is None
        ):
            return Replayed.GONE
        await self._run("enqueue", (), policy, batch_id, "1", *items)
        await dead.forget(self._client, letter.stream, [letter.entry])
        await self._command("HDEL", self.keys.part("control"), batch_id)
        return Replayed.DONE

    async def wait_for_replica(self, replicas: Replicas) -> None:
        """In a cluster: return when a replica has all earlier writes to this lane."""
        await replicas.wait_for_replica(self.keys.replicated)

    async def claim(self, wanted: int, shared: int = 0) -> Claimed:
        """Take up to `wanted` messages, as far as rate, pause and hold allow.

        `shared`: the slots of this worker that groups without an answer share. 0: all slots.
        """
        policies = self._policies
        if self._large.expected and (found := await self._large.claim(wanted)) is not None:
            return found
        arguments = wanted, policies.claim, shared, policies.plain_claims, policies.group_concurrency
        reply, _ = await self._run("claim", (self._inflight,), *arguments)
        if reply[0] == b"groups":
            self._serve_left_groups()
            reply, _ = await self._run("claim", (self._inflight,), *arguments)
        claimed = decode_claimed(reply)
        if claimed.claims:
            self._large.look_at(claimed.claims)
        elif self._large.listed and claimed.found_nothing:
            return await self._large.claim(wanted) or claimed
        return claimed

    async def expand(
        self, expansion: Expansion, group_of: Callable[[Message], str] | None = None, wanted: int = 0
    ) -> Sequence[Claim] | None:
        """Put the messages of a chunk of a fan-out into the lane. Returns the claims of those that are in
        flight already; None if the fan-out is no longer ours.

        Up to `wanted` of them go straight into flight, if nothing else waits and the lane has neither rates,
        groups nor a state. `group_of` names the group of each, if the lane has groups.
        """
        messages = expand(expansion.template, expansion.ticket, expansion.chunk, expansion.first)
        if group_of is None:
            records = pack_targets(messages)
        else:
            messages = [msgspec.structs.replace(message, group=group_of(message)) for message in messages]
            records = [pack(message) for message in messages]
        reply, _ = await self._run(
            "expand",
            (self._inflight,),
            int(self._lifo),
            expansion.ticket,
            expansion.fencing_token,
            wanted if self._policies.plain_claims else 0,
            *records,
        )
        if reply is None:
            return None
        token = reply[0].decode()
        return [
            Claim(ticket.decode(), token, message, part_of=expansion.ticket)
            for ticket, message in zip(reply[1:], messages, strict=False)  # the others wait
        ]

    async def settle(self, settlements: Sequence[Settlement], hold: Hold | None = None) -> Settled:
        """Apply outcomes. Repeating a call changes nothing."""
        if hold is None:
            settled = await self._short_settles.settle(settlements, has_groups=self._has_groups)
            if settled is not None:
                return settled
        state, milliseconds, reason = "", 0, ""
        if hold is not None:
            state, reason = State.THROTTLED.value, hold.reason
            milliseconds = 0 if hold.seconds is None else max(1, round(hold.seconds * 1000))
        entries, bodies = codec.encode(settlements)
        arguments: tuple[Argument, ...] = (
            self._policies.settle,
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
            reply, _ = await self._run("release", (inflight,), self._policies.claim, mode, POISON, 500, *kept)
            released, dead, left = reply
            total += released + dead
        return total

    async def pause(self, pause: Pause = ENDLESS) -> None:
        """Hand out nothing, over the whole fleet, until `resume` or the end of the pause."""
        await self._run("set_control", (), *pause.to_control())

    async def resume(self) -> None:
        """Lift a pause, and any hold by a throttle, a breaker, refused credentials or missing targets.

        Suspects are tried again.
        """
        await self._run("resume", (), int(self._lifo))

    async def probe(self) -> str:
        """End the hold for one message, whose answer decides. Returns the state of the lane: `paused` and
        `throttled` lanes send none; empty if the lane does not hold."""
        reply, _ = await self._run("probe", ())
        return bytes(reply).decode()

    async def pause_group(self, group: str, until: float = 0, by: str = "", reason: str = "") -> None:
        """Hand out no messages of a group, over the fleet, until `resume_group` or Unix time `until`."""
        await self._run("pause_group", (), self._policies.claim, group, round(until * 1000), by, reason)

    async def resume_group(self, group: str) -> bool:
        """Lift a pause, a hold, an open breaker or the end of a disabled group; False if there was none."""
        reply, _ = await self._run("resume_group", (), self._policies.claim, group)
        return bool(reply)

    async def forget_worker(self, worker: str, queues: Iterable[str]) -> None:
        """Forget the last fetches and the last flush of a worker that is gone."""
        if batch_ids := [batch_id_of(worker, queue) for queue in queues]:
            await self._command("HDEL", self.keys.part("control"), *batch_ids)
        await self._command("HDEL", self.keys.part("statistics"), flush_of(worker))

    async def check_keys(self) -> None:
        """Raise StoreError if a key of the lane has a wrong type, or may not be used."""
        await self.cancel("", ())  # reads every key of the lane, and there is no such id

    async def cancel(self, message_id: str, workers: Iterable[str], ticket: int | None = None) -> str:
        """Take a waiting message back: 'cancelled', 'in flight' or 'unknown'.

        Only ids that applications chose are in an index. Others need the `ticket` of their message.
        """
        hashes = [self.keys.inflight(worker) for worker in workers]
        found = "" if ticket is None else ticket
        reply, _ = await self._run("cancel", hashes, message_id, self._policies.claim, found)
        return bytes(reply).decode()

    async def send_next(
        self, ticket: int, workers: Iterable[str], step: Literal["move", "count"] = "move"
    ) -> tuple[str, int]:
        """Move a waiting message to the head of its lane or group, or only see whether that is possible.

        Returns 'moved' or 'movable', or the reason why it stays; and how many messages of its group still go
        before it.
        """
        hashes = [self.keys.inflight(worker) for worker in workers]
        reply, _ = await self._run("send_next", hashes, ticket, int(self._lifo), step)
        return bytes(reply[0]).decode(), int(reply[1])

    async def size(self) -> int:
        """Return the number of messages in the lane: waiting, delayed, blocked, and in flight at any
        worker."""
        return int(await self._command("HLEN", self.keys.part("bodies")))

    async def in_flight(self, workers: Sequence[str]) -> list[int]:
        """Return the number of messages that each of these workers holds."""
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
