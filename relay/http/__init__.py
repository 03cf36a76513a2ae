"""The transport seam: a `Request` in, a `Response` out; no adapter knows what is behind it."""

from collections.abc import Sequence

from relay.http.guard import Network
from relay.http.routed import RoutedTransport, preload
from relay.http.transport import ForbiddenAddress, Transport, Unsendable
from relay.settings.options import ProviderOptions

__all__ = ["ForbiddenAddress", "Transport", "Unsendable", "open_transport"]


def open_transport(
    options: ProviderOptions,
    *,
    allowed: Sequence[Network] = (),
    prefers_http2: bool = False,
    http2: bool = False,
    guarded: bool = False,
) -> Transport:
    """A transport of one provider: its time-out, its number of connections, its TLS.

    Requests that are `public_only` reach public addresses and the `allowed` networks. HTTP/1.1 is spoken;
    with `prefers_http2` HTTP/2 over TLS, where the other side knows it; with `http2` nothing else. All code
    that requests need is loaded here, that of `public_only` ones if they may be `guarded`.
    """
    preload(guarded=guarded, http2=http2, prefers_http2=prefers_http2)
    return RoutedTransport(options, tuple(allowed), prefers_http2=prefers_http2, http2=http2)
