"""HTTP: a `Request` in, a `Response` out. Adapters do not know which client is behind it."""

from collections.abc import Sequence

from relay.http.guard import Network
from relay.http.transport import ForbiddenAddress, Transport, Unsendable
from relay.settings.options import ProviderOptions

__all__ = ["ForbiddenAddress", "Transport", "Unsendable", "open_transport"]


def open_transport(
    options: ProviderOptions,
    *,
    allowed: Sequence[Network] = (),
    prefers_http2: bool = False,
    http2: bool = False,
) -> Transport:
    """The transport of one provider, with its timeout, its number of connections and its TLS options.

    Requests that are `public_only` reach public addresses and the `allowed` networks. The default is
    HTTP/1.1. `prefers_http2` uses HTTP/2 over TLS if the server offers it, and `http2` nothing else.
    """
    # Not at the top: commands that send nothing start faster without libcurl.
    from relay.http.router import TransportRouter

    return TransportRouter(options, tuple(allowed), prefers_http2=prefers_http2, http2=http2)
