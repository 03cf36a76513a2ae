"""Large messages without a header: their records bypass the scripts.

Redis's Lua looks at every byte of its strings, about a nanosecond each. So a worker writes such records
itself, in one transaction with the script that enqueues their tickets, and reads them itself after a claim.
They are stored like all others; the lane's key `large` only lists the tickets whose records a claim need not
read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from relay.errors import StoreError
from relay.message import LARGE, Message
from relay.redis_client.client import (
    REDIS_ERRORS,
    Argument,
    Client,
    describe,
    execute,
    raise_if_cancelled,
    transaction,
)
from relay.redis_client.topology import is_cluster
from relay.store.claims import Claim, Claimed
from relay.store.items import Enqueued
from relay.store.keys import LaneKeys
from relay.store.recent_messages import recent_messages
from relay.store.record import unpack
from relay.store.scripting import script

Run = Callable[..., Coroutine[Any, Any, tuple[Any, bool]]]


def are_large(arguments: Sequence[str | bytes | int]) -> bool:
    """Return whether these messages, as priority, record, …, are large on average."""
    return sum(map(len, arguments[1::2])) >= LARGE * (len(arguments) // 2)  # type: ignore[arg-type]


class LargeBodies:
    """Enqueues and claims large messages of one lane, without groups and limits. Every method raises
    StoreError."""

    def __init__(self, client: Client, keys: LaneKeys, inflight: str, run: Run, *, claims: bool) -> None:
        """`run` runs a script of the lane. `claims`: whether the lane has neither rates nor groups."""
        self._client = client
        self._server = None if is_cluster(client) else client
        """The Redis that runs transactions; None for a cluster, whose client is too slow at them."""
        self._bodies = keys.part("bodies")
        self._recent = recent_messages(client)
        self._inflight = inflight
        self._run = run
        written = script("enqueue_written")
        self._enqueue: tuple[Argument, ...] = (
            *("EVAL", written.text, len(written.lane_parts)),
            *keys.of_script(written.lane_parts),
        )
        self._may_claim = claims and self._server is not None
        self._may_write: bool | None = None
        """Whether the user may run transactions; None if that is not known."""
        self.expected = False
        """Whether the messages that wait are probably large."""
        self.listed = False
        """Whether `large` may list tickets. Claims by scripts leave them there."""

    async def enqueue(
        self,
        messages: Sequence[Message],
        arguments: Sequence[str | bytes | int],
        batch_id: str,
        sequence: str,
    ) -> Enqueued | None:
        """Enqueue messages, whose `arguments` are priority, record, …; a batch counts once.

        Returns None if Redis accepts no transaction now.
        """
        server = self._server
        if server is None:
            return None
        if self._may_write is None:
            self._may_write = await self._has_rights(server)
        if not self._may_write:
            return None
        last, _ = await self._run("reserve", (), len(arguments) // 2, batch_id, sequence)
        if last is None:
            return Enqueued(False)
        number, tickets, fields = int(last), list[bytes](), list[Argument]()
        for index in range(0, len(arguments), 2):
            number += 1
            ticket = b"%d" % (4 * number + int(arguments[index]))
            tickets.append(ticket)
            fields += (ticket, arguments[index + 1])
        self.expected = self._may_claim
        if self._may_claim:
            # Already now, because a claim may be answered before this process has read the reply.
            self._recent.keep(self._bodies, tickets, messages)
        try:
            written, reply = await transaction(
                server,
                ("HSET", self._bodies, *fields),
                (*self._enqueue, batch_id, sequence, int(self._may_claim), *tickets),
            )
        except NoPermissionError:
            self._may_write = None
            return None
        except ResponseError:
            return None  # such as OOM, which scripts are spared: nothing has run
        except REDIS_ERRORS as error:
            raise StoreError(f"enqueue_written: {describe(error)}") from error
        raise_if_cancelled()
        for found in (reply, written):
            if isinstance(found, Exception):
                raise StoreError(f"enqueue_written: {describe(found)}") from found
        self.listed = self._may_claim
        return Enqueued(False, accepted=reply[0], ready=reply[1])

    async def _has_rights(self, server: Redis) -> bool:
        """Return whether the user may run transactions: without MULTI, commands would run one by one."""
        try:
            await transaction(server, ("HLEN", self._bodies))
        except NoPermissionError:
            return False
        except ResponseError:
            return True
        except REDIS_ERRORS as error:
            raise StoreError(f"MULTI: {describe(error)}") from error
        return True

    async def claim(self, wanted: int) -> Claimed | None:
        """Take up to `wanted` messages; None if a usual claim has to do it."""
        reply, _ = await self._run("claim_large", (self._inflight,), wanted)
        if reply is None:
            self.expected, self.listed = False, True
            return None
        more, wait, token, held, *found = reply
        if not token:
            self.listed = False
        tickets, records = found[::2], found[1::2]
        claims = [
            Claim(ticket.decode(), str(token), message, headerless=True)
            for ticket, message in zip(tickets, await self._messages(tickets, records), strict=True)
            # Otherwise another worker has recovered and delivered it meanwhile.
            if message is not None
        ]
        if found:
            self.expected = not all(records)
        if more:
            return Claimed("ok", 0.0, claims, held=held)
        return Claimed("empty", None if wait < 0 else wait / 1_000_000, claims, held=held)

    async def _messages(self, tickets: Sequence[bytes], records: Sequence[bytes]) -> Sequence[Message | None]:
        """Return the messages of a claim. Those with an empty record are here, or are read."""
        found = [
            unpack(record) if record else self._recent.take(self._bodies, ticket)
            for ticket, record in zip(tickets, records, strict=True)
        ]
        missing = [ticket for ticket, message in zip(tickets, found, strict=True) if message is None]
        if not missing:
            return found
        read = iter(await self._read(missing))
        return [message or _unpacked(next(read)) for message in found]

    async def _read(self, tickets: Sequence[bytes]) -> Sequence[bytes | None]:
        try:
            records: Sequence[bytes | None] = await execute(self._client, "HMGET", self._bodies, *tickets)
        except REDIS_ERRORS as error:
            raise StoreError(f"HMGET {self._bodies}: {describe(error)}") from error
        raise_if_cancelled()
        return records

    def look_at(self, claims: Sequence[Claim]) -> None:
        """Learn from the messages of a usual claim whether the next ones are probably large."""
        self.expected = self._may_claim and len(claims[0].message.payload_json) >= LARGE


def _unpacked(record: bytes | None) -> Message | None:
    return None if record is None else unpack(record)
