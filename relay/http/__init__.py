"""HTTP: a `Request` becomes a `Response`. Adapters do not depend on a client library."""

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
    """Return the transport of one provider, with its timeout, its number of connections and its TLS options.

    `public_only` requests reach public addresses and the `allowed` networks. The default is HTTP/1.1.
    `prefers_http2` uses HTTP/2 over TLS if the server offers it; `http2` uses only HTTP/2.
    """
    # Imported here, so that commands that send nothing start faster without libcurl.
    from relay.http.router import TransportRouter

    return TransportRouter(options, tuple(allowed), prefers_http2=prefers_http2, http2=http2)
