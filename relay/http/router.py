"""The transport router: chooses the connections for each request of one provider."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from pydantic import SecretStr

from relay.http.curl_http2 import CurlHttp2Transport
from relay.http.curl_transport import CurlTransport
from relay.http.guard import Network
from relay.http.request import Request, Response
from relay.http.transport import Http2Transport, OnDone, PendingRequest, Transport, Unsendable
from relay.settings.http import HttpOptions
from relay.settings.options import ProviderOptions
from relay.settings.redaction import secrets_in
from relay.text import Redactor


class TransportRouter(Transport):
    """Has one transport each for HTTP/1.1, HTTP/2 and guarded requests.

    A connection that was opened without the guard is never used for guarded requests. Each transport is
    created with its first request, because most of a thousand providers are idle.
    """

    def __init__(
        self, options: ProviderOptions, allowed: tuple[Network, ...], *, http2: bool, prefers_http2: bool
    ) -> None:
        self._options = options
        self._allowed = allowed
        self._prefers_http2 = prefers_http2
        self._http2 = http2
        self._guarded: Transport | None = None
        self._over_http1: Transport | None = None
        self._over_http2: Http2Transport | None = None
        self._secrets = tuple(secrets_in(options))

    def start(self, request: Request, on_done: OnDone) -> PendingRequest:
        return self._pick(request).start(request, partial(self._finish, request, on_done))

    def _finish(
        self, request: Request, on_done: OnDone, pending: PendingRequest, result: Response | Exception
    ) -> None:
        if not isinstance(result, Exception) and result.status >= 300:
            result = self._redacted(request, result)
        on_done(pending, result)

    def _redacted(self, request: Request, response: Response) -> Response:
        """A receiver that echoes the request must not bring credentials into dead letters and logs."""
        secrets = (*secrets_in(request.headers), *secrets_in([SecretStr(text) for text in request.secrets]))
        redactor = Redactor((*self._secrets, *secrets))
        headers = dict(response.headers)
        if "location" in headers:
            headers["location"] = redactor.text(headers["location"])
        return msgspec.structs.replace(response, headers=headers, body=redactor.data(response.body))

    def _pick(self, request: Request) -> Transport:
        if request.public_only:
            if self._guarded is None:
                self._guarded = _open_guarded(self._options, self._allowed)
            return self._guarded
        if self._http2 or (self._prefers_http2 and request.url.startswith("https:")):
            if self._over_http2 is None:
                self._over_http2 = _open_http2(self._options, only=self._http2)
            if self._http2 or not self._over_http2.speaks_http1(request.url):
                return self._over_http2
        if self._over_http1 is None:
            self._over_http1 = _open_http1(self._options)
        return self._over_http1

    async def close(self) -> None:
        for transport in (self._guarded, self._over_http1, self._over_http2):
            if transport is not None:
                await transport.close()


def _open_http1(options: ProviderOptions) -> Transport:
    return CurlTransport(**_connection_options(options))


def _open_http2(options: ProviderOptions, *, only: bool) -> Http2Transport:
    return CurlHttp2Transport(**_connection_options(options), http2=only)


def _open_guarded(options: ProviderOptions, allowed: tuple[Network, ...]) -> Transport:
    ca = None
    if isinstance(options, HttpOptions):
        if options.proxy or options.client_cert:
            # Adapters check this when the file is read. This check protects from adapters that do not.
            raise Unsendable("a URL that comes with a message can have neither `proxy` nor `client_cert`")
        ca = options.ca.get_secret_value() if options.ca else None
    return CurlTransport(timeout=options.timeout, concurrency=options.concurrency, ca=ca, allowed=allowed)


def _connection_options(options: ProviderOptions) -> dict[str, Any]:
    """Return the arguments that all transports share."""
    found: dict[str, Any] = {"timeout": options.timeout, "concurrency": options.concurrency}
    if isinstance(options, HttpOptions):
        certificate, key = options.client_cert, options.client_key
        if certificate and key:
            found["identity"] = (certificate.get_secret_value(), key.get_secret_value())
        found["ca"] = options.ca.get_secret_value() if options.ca else None
        found["proxy"] = options.proxy.get_secret_value() if options.proxy else None
        found["connections"] = options.connections
    return found
