"""The transport seam: a `Request` in, a `Response` out; no adapter knows what is behind it."""

from collections.abc import Sequence

from relay.http.aiohttp_transport import AiohttpTransport
from relay.http.guard import Network
from relay.http.transport import ForbiddenAddress, Transport, Unsendable

__all__ = ["AiohttpTransport", "ForbiddenAddress", "Transport", "Unsendable", "open_transport"]


def open_transport(
    *, timeout: float, concurrency: int, allowed: Sequence[Network] | None = None
) -> Transport:
    """A transport of one provider: `timeout` in seconds for a whole exchange, `concurrency` connections.

    Requests that are `public_only` reach the `allowed` networks too.
    """
    return AiohttpTransport(timeout=timeout, concurrency=concurrency, allowed=tuple(allowed or ()))
