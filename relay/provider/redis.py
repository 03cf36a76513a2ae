"""The interface of adapters whose provider is a Redis: they turn messages into transactions, and answers into
outcomes.

The adapter stays pure. The engine owns the connections, and runs the transactions of a batch in one pipeline
(`relay.redis_client.pipelines`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from relay.message import Message
from relay.names import OwnNames
from relay.outcome import Outcome
from relay.provider import OptionsT, Provider

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Commands that Redis runs together, in this order, without commands of other clients in between.

    On a cluster, the slot of `key` decides which node runs them. PUBLISH may run on any, because every node
    receives it.
    """

    commands: Sequence[tuple[Argument, ...]]
    key: str


@dataclass(frozen=True, slots=True)
class Replied:
    """All commands ran. There is one reply for each."""

    replies: Sequence[object]


@dataclass(frozen=True, slots=True)
class Refused:
    """Redis refused the whole transaction, or one of its commands while the others ran.

    `code` is the first word of the error (OOM, WRONGTYPE, NOPERM, …), `text` the whole line.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There was no answer: the transaction may or may not have run. `reason` is one line for people."""

    reason: str


Answer = Replied | Refused | Unanswered


class RedisLink(Protocol):
    """The connections to one Redis, by any of the schemes of `redis.url`."""

    async def run(self, transactions: Sequence[Transaction]) -> Sequence[Answer]:
        """Run the transactions in one pipeline (on a cluster, one per node). Returns one answer for each, in
        the same order."""
        ...

    async def greet(self) -> str:
        """Connect and authenticate; return one line about the server. Raises UsageError with the remedy."""
        ...


class RedisProvider(Provider[OptionsT]):
    """A provider that is a Redis. Implement `transaction` and `outcome`."""

    redis: RedisLink

    own_names: OwnNames = OwnNames()
    """Names that `transaction` must refuse, on every Redis: another URL may lead to relay's own Redis, and
    channels span all databases of a server. The engine sets them from the configuration."""

    @property
    def redis_url(self) -> str | None:
        """Return the URL of the Redis; None: relay's own."""
        return None

    def bind(self, redis: RedisLink) -> None:
        """Called once in each process, before `start`."""
        self.redis = redis

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        answers = await self.redis.run([self.transaction(message) for message in batch])
        return [self.outcome(message, answer) for message, answer in zip(batch, answers, strict=True)]

    async def verify(self) -> str:
        return await self.redis.greet()

    @abstractmethod
    def transaction(self, message: Message) -> Transaction:
        """Return the commands for the message. Pure."""

    @abstractmethod
    def outcome(self, message: Message, answer: Answer) -> Outcome:
        """Return the outcome of the message, given the answer. Pure."""


def forbid_names(providers: Iterable[Provider[Any]], own: OwnNames) -> None:
    """Make all providers that write to a Redis refuse these names."""
    for provider in providers:
        if isinstance(provider, RedisProvider):
            provider.own_names = own
