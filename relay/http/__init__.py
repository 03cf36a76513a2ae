"""HTTP: a `Request` in, a `Response` out. Adapters do not know which client is behind it."""

from collections.abc import Sequence

from relay.http.guard import Network
from relay.http.router import TransportRouter, preload
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
    """The transport of one provider, with its timeout, its number of connections and its TLS options.

    Requests that are `public_only` reach public addresses and the `allowed` networks. The default is
    HTTP/1.1. `prefers_http2` uses HTTP/2 over TLS if the server offers it, and `http2` nothing else. All code
    that requests need is imported here, that of `public_only` ones if there may be any (`guarded`).
    """
    preload(guarded=guarded, http2=http2, prefers_http2=prefers_http2)
    return TransportRouter(options, tuple(allowed), prefers_http2=prefers_http2, http2=http2)
