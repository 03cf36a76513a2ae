"""The data that passes between servers, emulators and the request log. It depends on no HTTP library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from relay.sandbox.options import RequestFaults

CUT = 2000
"""Bytes of a body that are shown and kept."""


class Query(Protocol):
    """The decoded parameters after the `?`. A name may occur more than once; `get` returns the first."""

    def get(self, name: str, default: str) -> str: ...

    def items(self) -> Iterable[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `path` is decoded; the names in `headers` are case-insensitive.

    `connection` is a number that the requests of one HTTP/2 connection share. `certified` is true if the
    client presented a certificate of the sandbox's authority.
    """

    method: str
    path: str
    query: Query
    headers: Mapping[str, str]
    body: bytes
    connection: int = 0
    certified: bool = False


class Received(NamedTuple):
    """One message of a request: `target` is a URL's path or the channels, `body` is cut."""

    target: str
    event: str
    message_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. `last`: the connection accepts no further requests (GOAWAY in HTTP/2)."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """An emulator's answer to a request, unless a fault replaces it.

    `requested` holds the faults that the request itself asks for.
    """

    answer: Answer
    messages: Sequence[Received] = ()
    requested: RequestFaults | None = None


class Refused(Exception):
    """A request is wrong: the answer's `status` and one line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def verdict(self, messages: Sequence[Received] = ()) -> Verdict:
        """Return the refusal as a verdict."""
        return Verdict(Answer(self.status, str(self).encode("utf-8", "replace")), messages)


class Emulator(Protocol):
    """The emulator of one provider. It opens no socket; the clock is passed in."""

    @property
    def name(self) -> str:
        """The provider's name in the request log, in faults and in the YAML block."""

    @property
    def routes(self) -> Sequence[tuple[str, str]]:
        """The emulator's methods and paths, in aiohttp's notation."""

    @property
    def gone(self) -> int:
        """The status for a target that is gone; 0 if the provider has no such answer."""

    def judge(self, call: Call) -> Verdict:
        """Check a request as the real provider does."""

    def failed(self, injected: Answer, right: Answer, reason: str) -> Answer:
        """Return an injected failure in the provider's form. `right` is the answer that it replaces."""

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the options of a relay provider that point here. Empty: this emulator is not a provider."""


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as text. Bytes that are not UTF-8 become replacement characters."""
    return body[:CUT].decode("utf-8", "replace")


def readable(text: str) -> str:
    """Replace surrogates, which stand for bytes that are not UTF-8 and which JSON cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def succeeds(status: int) -> bool:
    """Return whether a status means that the message was accepted."""
    return 200 <= status < 300
