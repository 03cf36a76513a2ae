"""The interface of a transport: it sends requests to one provider and returns the responses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from relay.errors import TransportError
from relay.http.request import Request, Response

if TYPE_CHECKING:
    import asyncio

BODY_LIMIT = 64 * 1024
"""Maximum bytes of a response body, before and after unpacking."""

HEAD_LIMIT = 64 * 1024
"""Maximum bytes up to the end of the final response head, including informational heads."""

INFORMATIONAL_LIMIT = 16
"""Maximum number of informational heads (1xx)."""

KEEP_ALIVE = 15.0
"""Seconds for which an idle HTTP/1.1 connection is kept. Servers close theirs at an unknown time."""


class Unsendable(TransportError):
    """The request can never be sent: its URL or one of its headers is invalid."""


class ForbiddenAddress(Unsendable):
    """A URL that came with a message leads to addresses that messages must not reach."""


class ProxyCredentialsRequired(TransportError):
    """The proxy did not accept our credentials (407), so no request passes it."""


class PendingRequest(Protocol):
    """A request in flight."""

    def cancel(self) -> object:
        """Abort the request: its callback is never called."""


OnDone = Callable[[PendingRequest, "Response | Exception"], None]
"""Called with the response, or with the exception that `Transport.send` would raise."""


class Transport(ABC):
    """The connections to one provider."""

    @abstractmethod
    def start(self, request: Request, on_done: OnDone) -> PendingRequest:
        """Start a request without waiting for it.

        The event loop calls `on_done` once, after this has returned. Raises Unsendable if the request is
        found to be invalid immediately.
        """

    async def send(self, request: Request) -> Response:
        """Send a request and return the response. Redirects are not followed.

        Raises TransportError, with one line for people, if there is no response, and Unsendable or
        ForbiddenAddress if there can never be one.
        """
        import asyncio  # 2 MiB that an adapter's options do not need

        done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        pending = self.start(request, partial(_resolve, done))
        try:
            return await done
        except asyncio.CancelledError:
            # A finished request must not be cancelled: its object may belong to another one by now.
            if done.cancelled():
                pending.cancel()
            raise

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""


class Http2Transport(Transport):
    """A transport that prefers HTTP/2."""

    @abstractmethod
    def speaks_http1(self, url: str) -> bool:
        """Return whether the server of a URL answered over HTTP/1.1 when HTTP/2 was offered."""


def _resolve(done: asyncio.Future[Response], _: PendingRequest, result: Response | Exception) -> None:
    if done.done():
        return  # its task was cancelled
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
