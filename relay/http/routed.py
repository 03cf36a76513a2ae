"""One provider's transport: by the request it decides who carries it, and adapters do not know."""

from __future__ import annotations

import ssl
from typing import Any

import msgspec

from relay.http.guard import Network
from relay.http.request import Request, Response
from relay.http.transport import Exchange, OnAnswer, Transport, Unsendable
from relay.settings.http import HttpOptions
from relay.settings.options import ProviderOptions
from relay.settings.redaction import secrets_in
from relay.text import Redactor


class RoutedTransport:
    """What is `public_only` goes through aiohttp and the guard, HTTP/2 through pyreqwest, all else through
    libcurl.

    Each is made at its first request: of a thousand providers, most have nothing to do.
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
        self._over_http2: Transport | None = None
        self._secrets = tuple(secrets_in(options))

    def begin(self, request: Request, on_answer: OnAnswer) -> Exchange:
        def pass_on(exchange: Exchange, answer: Response | Exception) -> None:
            if not isinstance(answer, Exception) and answer.status >= 300:
                answer = self._without_secrets(request, answer)
            on_answer(exchange, answer)

        return self._transport(request).begin(request, pass_on)

    async def send(self, request: Request) -> Response:
        response = await self._transport(request).send(request)
        return response if response.status < 300 else self._without_secrets(request, response)

    def _without_secrets(self, request: Request, response: Response) -> Response:
        """A receiver that echoes what we sent must not get our credentials into dead letters and logs."""
        redactor = Redactor((*self._secrets, *secrets_in(request.headers)))
        headers = dict(response.headers)
        if "location" in headers:
            headers["location"] = redactor.text(headers["location"])
        return msgspec.structs.replace(response, headers=headers, body=redactor.data(response.body))

    def _transport(self, request: Request) -> Transport:
        if request.public_only:
            if self._guarded is None:
                self._guarded = _guarded(self._options, self._allowed)
            return self._guarded
        if self._http2 or (self._prefers_http2 and request.url.startswith("https:")):
            if self._over_http2 is None:
                self._over_http2 = _over_http2(self._options, only=self._http2)
            return self._over_http2
        if self._over_http1 is None:
            self._over_http1 = _over_http1(self._options)
        return self._over_http1

    async def close(self) -> None:
        for transport in (self._guarded, self._over_http1, self._over_http2):
            if transport is not None:
                await transport.close()


def preload(*, guarded: bool, http2: bool, prefers_http2: bool) -> None:
    """Import what requests may need, so that a package that is replaced later changes nothing."""
    if guarded:
        from relay.http import aiohttp_transport  # noqa: F401
    if http2 or prefers_http2:
        from relay.http.reqwest_transport import start_runtime

        start_runtime()
    if not http2:
        from relay.http import curl_transport  # noqa: F401


def _over_http1(options: ProviderOptions) -> Transport:
    from relay.http.curl_transport import CurlTransport

    return CurlTransport(**_way(options))


def _over_http2(options: ProviderOptions, *, only: bool) -> Transport:
    from relay.http.reqwest_transport import ReqwestTransport

    return ReqwestTransport(**_way(options), http2=only)


def _way(options: ProviderOptions) -> dict[str, Any]:
    """How a provider is reached, as both clients of fixed hosts take it."""
    way: dict[str, Any] = {"timeout": options.timeout, "concurrency": options.concurrency}
    if isinstance(options, HttpOptions):
        certificate, key = options.client_cert, options.client_key
        if certificate and key:
            way["identity"] = (certificate.get_secret_value(), key.get_secret_value())
        way["ca"] = options.ca.get_secret_value() if options.ca else None
        way["proxy"] = options.proxy.get_secret_value() if options.proxy else None
        way["connections"] = options.connections
    return way


def _guarded(options: ProviderOptions, allowed: tuple[Network, ...]) -> Transport:
    from relay.http.aiohttp_transport import AiohttpTransport, tls_context

    context: ssl.SSLContext | None = None
    if isinstance(options, HttpOptions):
        if options.proxy or options.client_cert:
            # Adapters refuse it when the file is read; this is for those that forget.
            raise Unsendable("a URL that a message brings can have neither `proxy` nor `client_cert`")
        if options.ca:
            context = tls_context(options.ca.get_secret_value())
    return AiohttpTransport(
        timeout=options.timeout, concurrency=options.concurrency, allowed=allowed, context=context
    )
