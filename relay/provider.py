"""The adapter interface, and how adapters are found.

An adapter turns messages into requests and responses into outcomes. It opens no socket, keeps no
state between messages and never sleeps: connections, time limits, concurrency, retries and metrics
belong to the engine.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import msgspec

from relay.errors import UsageError
from relay.message import Message
from relay.outcome import Outcome, Rejected
from relay.settings.provider import ProviderOptions

if TYPE_CHECKING:
    from relay.http.transport import Exchange, OnAnswer, Transport

ENTRY_POINTS = "relay.providers"

OptionsT = TypeVar("OptionsT", bound=ProviderOptions)


class Request(msgspec.Struct, frozen=True):
    """One HTTP request, complete: `body` is sent byte for byte.

    `public_only` guards a URL that came with a message: it must resolve to public addresses.
    """

    url: str
    body: bytes = b""
    headers: Mapping[str, str] = {}
    method: str = "POST"
    public_only: bool = False


class Response(msgspec.Struct, frozen=True):
    """The answer. Header names are lower case; `body` is cut at the transport's limit."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text for humans: undecodable bytes are replaced."""
        return self.body.decode("utf-8", "replace")


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

    guarded: bool = False
    """Whether requests may be `public_only`: the guard is then loaded before the first one needs it."""

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
        """The host that the message goes to, where the options have a rate for each; else empty."""
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

    def begin(self, batch: Sequence[Message], on_answer: OnAnswer) -> Exchange:
        """As much of `deliver` as comes before the answer; `outcomes` is the rest. The engine's."""
        return self._transport.begin(self.request(batch), on_answer)

    @abstractmethod
    def request(self, batch: Sequence[Message]) -> Request:
        """The request that carries the batch. Pure; signs with `self.clock()` of now."""

    @abstractmethod
    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        """Return one outcome for each message of the batch, in the same order. Pure."""


AdapterType = type[Provider[ProviderOptions]]


class Adapters(Mapping[str, AdapterType]):
    """The installed adapters by type name. Each is imported when it is first looked up.

    A look-up raises UsageError if the adapter cannot be imported or is not a `Provider`; names can be
    listed and tested regardless.
    """

    def __init__(self, entries: Iterable[EntryPoint]) -> None:
        self._entries = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}

    def __getitem__(self, name: str) -> AdapterType:
        entry = self._entries[name]
        try:
            adapter = entry.load()
        except (Exception, SystemExit) as error:  # a package may raise anything while it is imported
            raise UsageError(
                f"the adapter {name!r} ({self.package(name)}, {entry.value}) cannot be imported: "
                f"{type(error).__name__}: {error}; reinstall that package, or repair it"
            ) from error
        if not (isinstance(adapter, type) and issubclass(adapter, Provider)):
            raise UsageError(
                f"the adapter {name!r} ({self.package(name)}, {entry.value}) is not a subclass of "
                "relay.provider.Provider"
            )
        return adapter

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def broken(self) -> dict[str, UsageError]:
        """The adapters that cannot be used, each with the reason. Imports all of them."""
        found = {}
        for name in self:
            try:
                self[name]
            except UsageError as error:
                found[name] = error
        return found

    def package(self, name: str) -> str:
        """Name and version of the package that an adapter comes with."""
        dist = self._entries[name].dist
        return f"{dist.name} {dist.version}" if dist else "unknown package"


class AdapterOptions(Mapping[str, type[ProviderOptions]]):
    """The options of each adapter by type name; a look-up imports the adapter."""

    def __init__(self, adapters: Mapping[str, AdapterType]) -> None:
        self._adapters = adapters

    def __getitem__(self, name: str) -> type[ProviderOptions]:
        return self._adapters[name].Options

    def __contains__(self, name: object) -> bool:
        return name in self._adapters

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)


def discover() -> Adapters:
    """All adapters, built in and installed, through the entry-point group. Nothing is imported yet."""
    return Adapters(entry_points(group=ENTRY_POINTS))
