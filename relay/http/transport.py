"""What carries a request to a provider and its answer back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from relay.errors import TransportError
from relay.http.request import Request, Response

BODY_LIMIT = 64 * 1024
"""Bytes of an answer that are read; the rest is cut off, and the connection with it."""

HEAD_LIMIT = 64 * 1024
"""Bytes that may come before the end of an answer's head, informational heads included."""

INFORMATIONAL_LIMIT = 16
"""Informational heads (1xx) that may come before an answer."""

TOO_MANY_INFORMATIONAL = f"it sent more than {INFORMATIONAL_LIMIT} informational answers (1xx)"

IDLE_TOO_LONG = 408
"""What servers say to a connection that was idle, before they close it: where it is the first word on a
connection that served before, it is no answer to what was sent (RFC 9110, 15.5.9)."""


class Unsendable(TransportError):
    """The request can never be made, however often it is tried: its URL is none, or a header."""


class ForbiddenAddress(Unsendable):
    """A URL that came with a message leads to an address that it may not reach."""


class Exchange(Protocol):
    """A request under way."""

    def cancel(self) -> object:
        """Take it back: nobody hears of an answer any more."""


OnAnswer = Callable[[Exchange, "Response | Exception"], None]
"""Hears the answer to a request that was begun, or why none came, in words of `Transport.send`."""


class Transport(Protocol):
    """One provider's connections."""

    def begin(self, request: Request, on_answer: OnAnswer) -> Exchange:
        """As `send`, for those who need no task to wait in.

        `on_answer` is called once by the event loop, after this has returned. Raises Unsendable where it is
        seen at once that the request can never be made.
        """
        ...

    async def send(self, request: Request) -> Response:
        """The answer, its body cut at `BODY_LIMIT`. Redirects are not followed.

        Raises TransportError, with one line for people, where no complete answer came, and
        Unsendable (ForbiddenAddress among it) where none ever will.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
