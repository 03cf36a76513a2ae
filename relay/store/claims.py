"""The messages that a claim hands out, decoded from the reply of `claim.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.message import Message
from relay.store.record import unpack, unpack_claimed


class Claim(msgspec.Struct, frozen=True):
    """One message that this worker holds until it settles it.

    `fencing_token` names the claim: after the message was handed on, nothing can be settled under it.
    """

    ticket: str
    fencing_token: str
    message: Message
    deliveries: int = 0
    crashes: int = 0
    isolated: bool = False
    again: int = 0
    """The number of times that it was tried again after a refusal, because the provider accepted another
    message."""
    headerless: bool = False
    """Whether the scripts need no fields of it after its delivery."""
    part_of: str = ""
    """The ticket of the fan-out that counts it as one of its targets."""
    history: str = ""
    """Its failed attempts, as `relay.store.attempts` encodes them."""

    def tries(
        self, *, attempts: int | None = None, isolated: bool | None = None, history: str | None = None
    ) -> str:
        """Fields to store if the message has to wait again: the counters and the failed attempts. Unchanged
        values may be left out."""
        spent = self.message.attempts if attempts is None else attempts
        is_isolated = self.isolated if isolated is None else isolated
        counters = f"{spent}:{self.deliveries + 1}:{self.crashes}:{int(is_isolated)}"
        if self.again:
            counters = f"{counters}:{self.again}"
        history = self.history if history is None else history
        return f"{counters} {history}" if history else counters


@dataclass(frozen=True, slots=True)
class Expansion:
    """A chunk of a fan-out's targets (a JSON array) that this worker is to make messages of.

    `first` is the index of its first target among all of the message's.
    """

    ticket: str
    fencing_token: str
    template: Message
    first: int
    chunk: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim. `wait` is in seconds; None: until something new arrives."""

    reason: str
    wait: float | None
    claims: Sequence[Claim]
    expansions: Sequence[Expansion] = ()
    passed_over: int = 0
    """The number of messages that had expired or been cancelled."""
    held: int = 0
    """Messages that this worker has in flight according to Redis; 0 if Redis did not count them."""
    override: float | None = None
    """The rate of an operator, in messages per second, if messages were claimed under one."""

    @property
    def found_nothing(self) -> bool:
        """Whether the lane is open, and the claim has changed nothing."""
        return self.reason == "empty" and not (self.claims or self.expansions or self.passed_over)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that went from its queue straight into flight, and the elements left in the queue."""

    claim: Claim
    left: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A provider's wish to be left alone. `seconds` None: the lane's own, growing wait."""

    seconds: float | None
    reason: str


def decode_claimed(reply: Any) -> Claimed:
    """Decode the reply of `claim.lua`."""
    fencing_token = str(reply[2])
    claims = [
        _claim(reply[index], fencing_token, reply[index + 1], reply[index + 2])
        for index in range(6, len(reply) - 2, 3)
    ]
    parts = reply[3]
    expansions = [
        Expansion(
            parts[index].decode(), fencing_token, unpack(parts[index + 1]), parts[index + 2], parts[index + 3]
        )
        for index in range(0, len(parts), 4)
    ]
    wait = None if reply[1] < 0 else reply[1] / 1_000_000
    override = float(reply[-1]) if len(reply) % 3 == 1 else None
    held = reply[5] if len(reply) > 5 else 0
    return Claimed(reply[0].decode(), wait, claims, expansions, reply[4], held, override)


def _claim(ticket: bytes, fencing_token: str, record: bytes, tries: bytes) -> Claim:
    message, headerless, part_of = unpack_claimed(record)
    if not tries:
        return Claim(ticket.decode(), fencing_token, message, headerless=headerless, part_of=part_of)
    counters, _, history = tries.partition(b" ")
    attempts, deliveries, crashes, isolated, *again = (int(part) for part in counters.split(b":"))
    if attempts:
        message = msgspec.structs.replace(message, attempts=attempts)
    return Claim(
        ticket.decode(),
        fencing_token,
        message,
        deliveries,
        crashes,
        bool(isolated),
        again[0] if again else 0,
        headerless,
        part_of,
        history.decode("utf-8", "replace"),
    )
