"""The adapter interface.

An adapter turns messages into requests and responses into outcomes. It opens no socket, keeps no state
between messages and never sleeps: connections, timeouts, concurrency, retries and metrics belong to the
engine.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
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
    """The typed model of this adapter's options, including the engine's (`rate`, `retry`, …)."""

    batch_size: int = 1
    """Maximum number of messages in one `deliver`."""

    target_field: str = ""
    """The field of the payload that one entry of `targets` fills, such as "token".

    A message with `targets` in its payload becomes one delivery for each, and the adapter sees only messages
    with that one field. Empty: this provider has no fan-out, and `targets` is an ordinary field.
    """

    http2: bool = False
    """Whether the provider requires HTTP/2."""

    prefers_http2: bool = False
    """Whether to use HTTP/2 over TLS if the server offers it. Without either attribute it is HTTP/1.1."""

    passes_trace_on: bool = False
    """Whether requests carry the `traceparent` of their message, so that the receiver continues its trace."""

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
        """Return the host of the message if messages name a URL; otherwise an empty text."""
        return ""

    def group(self, message: Message) -> Hashable:
        """Return the group of the message: messages of one group may share a batch. None: it gets a batch of
        its own. Not called if `batch_size` is 1."""
        return "all"

    def alert_payload(self, alert: Mapping[str, object]) -> Mapping[str, object]:
        """Return the payload of an alert of relay's own in the form that this provider takes.

        `alert` has the fields `text`, `alert`, `provider`, `group`, `status`, and more; see
        docs/reference/alerts.md.
        """
        return alert

    async def start(self, transport: Transport) -> None:
        """Called once in each process before the first delivery.

        Import here all modules that deliveries need, so that replacing the package later has no effect.
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

        Raises TransportError if there is no answer; the engine then retries the batch.
        """


class Repeat(Exception):
    """Passed to the callback of `start_request` instead of a response: `deliver_again` has to follow."""


class HttpProvider(Provider[OptionsT]):
    """A provider with one HTTP request for each batch. Implement `request` and `outcomes`."""

    _transport: Transport

    @property
    def is_one_request(self) -> bool:
        """Whether `start_request` can replace `deliver`. It cannot if a subclass overrides `deliver`."""
        for kind in type(self).__mro__:
            if "start_request" in vars(kind):
                return True
            if "deliver" in vars(kind):
                return False
        raise AssertionError("this class has a start_request")

    async def start(self, transport: Transport) -> None:
        self._transport = transport

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return self.outcomes(batch, await self._transport.send(self.request(batch)))

    async def deliver_again(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        """Deliver a batch whose request was refused for a reason that the adapter has corrected since."""
        return await self.deliver(batch)

    def start_request(self, batch: Sequence[Message], on_done: OnDone) -> PendingRequest | None:
        """The part of `deliver` before the response; `outcomes` is the rest. Called by the engine.

        An adapter may return None if it has to wait before its request: the engine then calls `deliver`. It
        may pass `Repeat` to `on_done` instead of a response: the engine then calls `deliver_again`.
        """
        return self._transport.start(self.request(batch), on_done)

    @abstractmethod
    def request(self, batch: Sequence[Message]) -> Request:
        """Return the request for the batch. Pure; signs with the time of `self.clock()`."""

    @abstractmethod
    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        """Return one outcome for each message of the batch, in the same order. Pure."""
