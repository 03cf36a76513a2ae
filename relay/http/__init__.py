"""The transport seam: a `Request` in, a `Response` out; no adapter knows what is behind it."""

from collections.abc import Sequence

from relay.http.guard import Network
from relay.http.routed import RoutedTransport
from relay.http.transport import ForbiddenAddress, Transport, Unsendable
from relay.settings.provider import ProviderOptions

__all__ = ["ForbiddenAddress", "Transport", "Unsendable", "open_transport"]


def open_transport(
    options: ProviderOptions,
    *,
    allowed: Sequence[Network] = (),
    http2: bool = False,
    http2_only: bool = False,
) -> Transport:
    """A transport of one provider: its time-out, its number of connections, its TLS.

    Requests that are `public_only` reach public addresses and the `allowed` networks. HTTP/1.1 is spoken;
    with `http2` HTTP/2 over TLS, where the other side knows it; with `http2_only` nothing else.
    """
    return RoutedTransport(options, tuple(allowed), http2=http2, http2_only=http2_only)
