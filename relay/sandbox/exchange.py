"""What passes between a server, a stand-in and the journal: plain data, bound to no HTTP library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from relay.sandbox.options import RequestFaults

CUT = 2000
"""Bytes of a body that are shown and remembered."""


class Query(Protocol):
    """The parameters after the `?`, decoded. A name may come more than once; `get` finds the first."""

    def get(self, name: str, default: str) -> str: ...

    def items(self) -> Iterable[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `path` is decoded; `headers` are found in any case.

    `connection` is a number that the requests of one HTTP/2 connection share; `certified`: its client has
    shown a certificate of the sandbox's authority.
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
    """One response. `last`: the connection takes no further request (HTTP/2's GOAWAY)."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a stand-in makes of a request: the answer if nothing is ordered to go wrong.

    `order` is what the request itself asks to go wrong.
    """

    answer: Answer
    messages: Sequence[Received] = ()
    order: RequestFaults | None = None


class Refused(Exception):
    """The answer to a request that is wrong: `status` and one line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def verdict(self, messages: Sequence[Received] = ()) -> Verdict:
        """The same as a verdict."""
        return Verdict(Answer(self.status, str(self).encode("utf-8", "replace")), messages)


class StandIn(Protocol):
    """One provider's double. It opens no socket; the clock is passed in."""

    @property
    def name(self) -> str:
        """The provider's name in the journal, in faults and in the block of YAML."""

    @property
    def routes(self) -> Sequence[tuple[str, str]]:
        """Methods and paths that are its own, in aiohttp's notation."""

    @property
    def gone(self) -> int:
        """The status that says of a target that it is gone; 0 where the provider knows none."""

    def judge(self, call: Call) -> Verdict:
        """Check one request, as the real provider does."""

    def failed(self, ordered: Answer, right: Answer, reason: str) -> Answer:
        """A failure that was ordered, in the provider's form; `right` would have been the answer."""

    def settings(self, url: str) -> Mapping[str, object]:
        """The options of a provider in relay's configuration that lead here; none: it is no provider."""


def excerpt(body: bytes) -> str:
    """The beginning of a body, as text; what is not UTF-8 shows as a replacement character."""
    return body[:CUT].decode("utf-8", "replace")


def readable(text: str) -> str:
    """The text where bytes that are not UTF-8 came in as surrogates, which no JSON can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def succeeds(status: int) -> bool:
    """Whether a status means that the message was taken."""
    return 200 <= status < 300
