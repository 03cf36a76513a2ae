"""The adapter interface.

An adapter turns messages into requests and responses into outcomes. It opens no socket, keeps no
state between messages and never sleeps: connections, time limits, concurrency, retries and metrics
belong to the engine.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar, Generic, TypeVar

from relay.http.request import Request, Response
from relay.http.transport import OnDone, PendingRequest, Transport
from relay.message import Message
from relay.outcome import Outcome, Rejected
from relay.settings.options import ProviderOptions

OptionsT = TypeVar("OptionsT", bound=ProviderOptions)


class Provider(ABC, Generic[OptionsT]):
    """One configured provider. Subclass `HttpProvider` if it speaks HTTP."""

    Options: ClassVar[type[ProviderOptions]] = ProviderOptions
    """The typed model of this adapter's options, the engine's own (`rate`, `retry`, …) included."""

    batch_size: int = 1
    """The most messages that one `deliver` takes."""

    target_field: str = ""
    """The payload's field that one entry of `targets` fills, such as "token": a message with `targets` in
    its payload becomes one delivery each, and the adapter sees only messages with that one field.
    Empty: this provider knows no fan-out, and `targets` is a field like any other."""

    http2: bool = False
    """Whether nothing but HTTP/2 will do."""

    prefers_http2: bool = False
    """Whether HTTP/2 is spoken over TLS where the other side knows it. Without either it is HTTP/1.1."""

    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that `public_only` requests may reach, besides public addresses."""

    def __init__(self, name: str, options: OptionsT, *, clock: Callable[[], float] = time.time) -> None:
        """`name` is the provider's name in the configuration; `clock` gives Unix seconds."""
        self.name = name
        self.options = options
        self.clock = clock

    def check(self, message: Message) -> Rejected | None:
        """Refuse a message that the provider could never accept, before anything is sent."""
        return None

    def destination(self, message: Message) -> str:
        """The host that the message goes to, if messages bring a URL; otherwise empty."""
        return ""

    def group(self, message: Message) -> Hashable:
        """Messages of one group may share a batch. None: this message travels alone."""
        return "all"

    async def start(self, transport: Transport) -> None:
        """Called once in each process before the first delivery.

        Import here what deliveries need: a package that is replaced later then changes nothing.
        """

    async def close(self) -> None:
        """Called once, after the last delivery."""

    async def verify(self) -> str:
        """Authenticate without sending a notification; used by `relay check --connect`.

        Returns one line about the result. Raises UsageError with the remedy.
        """
        return "nothing to authenticate"

    @abstractmethod
    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        """Deliver 1 to `batch_size` messages: one outcome for each, in the same order.

        Raises TransportError where no answer came; the engine turns it into a retry of the batch.
        """


class HttpProvider(Provider[OptionsT]):
    """A provider that takes one HTTP request for each batch. Implement `request` and `outcomes`."""

    _transport: Transport

    async def start(self, transport: Transport) -> None:
        self._transport = transport

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return self.outcomes(batch, await self._transport.send(self.request(batch)))

    def start_request(self, batch: Sequence[Message], on_done: OnDone) -> PendingRequest:
        """The part of `deliver` before the response; `outcomes` is the rest. For the engine."""
        return self._transport.start(self.request(batch), on_done)

    @abstractmethod
    def request(self, batch: Sequence[Message]) -> Request:
        """The request that carries the batch. Pure; signs with `self.clock()` of now."""

    @abstractmethod
    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        """Return one outcome for each message of the batch, in the same order. Pure."""
