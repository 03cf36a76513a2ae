"""The transport seam: a `Request` in, a `Response` out; no adapter knows what is behind it."""

from collections.abc import Sequence

from relay.http.aiohttp_transport import AiohttpTransport
from relay.http.guard import Network
from relay.http.reqwest_transport import ReqwestTransport
from relay.http.transport import ForbiddenAddress, Transport, Unsendable
from relay.settings.http import HttpOptions
from relay.settings.provider import ProviderOptions

__all__ = [
    "AiohttpTransport",
    "ForbiddenAddress",
    "ReqwestTransport",
    "Transport",
    "Unsendable",
    "open_transport",
]


def open_transport(
    options: ProviderOptions, *, allowed: Sequence[Network] = (), http2: bool = False
) -> Transport:
    """A transport of one provider: its time-out, its number of connections, its TLS.

    A provider with one host of its own (`HttpOptions`) may have HTTP/2, and has to with `http2`. What
    goes wherever a message says has HTTP/1.1, with a guard at connect time: requests that are
    `public_only` reach public addresses and the `allowed` networks.
    """
    if isinstance(options, HttpOptions):
        certificate, key = options.client_cert, options.client_key
        return ReqwestTransport(
            timeout=options.timeout,
            concurrency=options.concurrency,
            ca=options.ca.get_secret_value() if options.ca else None,
            identity=(
                f"{certificate.get_secret_value()}\n{key.get_secret_value()}" if certificate and key else None
            ),
            http2=http2,
        )
    return AiohttpTransport(timeout=options.timeout, concurrency=options.concurrency, allowed=tuple(allowed))
