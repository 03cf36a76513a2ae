"""One provider's transport: by the request it decides who carries it, and adapters do not know."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, ClassVar

import msgspec

from relay.http.guard import Network
from relay.http.transport import Transport, Unsendable
from relay.settings.http import HttpOptions
from relay.settings.provider import ProviderOptions
from relay.settings.redaction import Redactor, secrets_in

if TYPE_CHECKING:
    from relay.provider import Request, Response


class RoutedTransport:
    """What is `public_only` goes through aiohttp and the guard, all else through pyreqwest: over TLS with
    connections of the provider's own, over plain HTTP with those that all of them share.

    All are imported and made at their first request: of a thousand providers, most have nothing to do.
    """

    def __init__(self, options: ProviderOptions, allowed: tuple[Network, ...], *, http2: bool) -> None:
        self._options = options
        self._allowed = allowed
        self._http2 = http2
        self._fixed: Transport | None = None
        self._plain: Transport | None = None
        self._guarded: Transport | None = None
        self._secrets = tuple(secrets_in(options))

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
        if request.url.startswith("http://") and self._may_share():
            if self._plain is None:
                self._plain = _SharedTransport(self._options.timeout)
            return self._plain
        if self._fixed is None:
            self._fixed = _fixed(self._options, http2=self._http2)
        return self._fixed

    def _may_share(self) -> bool:
        options = self._options
        return not self._http2 and not (isinstance(options, HttpOptions) and options.proxy)

    async def close(self) -> None:
        for transport in (self._fixed, self._plain, self._guarded):
            if transport is not None:
                await transport.close()


class _SharedTransport:
    """Plain HTTP shows no identity, so providers whose time-outs are the same share a client. Each client has
    a pool of connections, and hundreds of pools take more memory than all else in a worker."""

    _all: ClassVar[dict[float, tuple[Transport, set[_SharedTransport]]]] = {}

    def __init__(self, timeout: float) -> None:
        from relay.http.reqwest_transport import ReqwestTransport

        self._timeout = timeout
        if timeout not in self._all:
            self._all[timeout] = (ReqwestTransport(timeout=timeout, concurrency=1), set())
        self._transport, sharers = self._all[timeout]
        sharers.add(self)

    async def send(self, request: Request) -> Response:
        return await self._transport.send(request)

    async def close(self) -> None:
        _, sharers = self._all[self._timeout]
        sharers.discard(self)
        if not sharers:
            del self._all[self._timeout]
            await self._transport.close()


def _fixed(options: ProviderOptions, *, http2: bool) -> Transport:
    from relay.http.reqwest_transport import ReqwestTransport

    if not isinstance(options, HttpOptions):
        return ReqwestTransport(timeout=options.timeout, concurrency=options.concurrency, http2=http2)
    certificate, key = options.client_cert, options.client_key
    return ReqwestTransport(
        timeout=options.timeout,
        concurrency=options.concurrency,
        ca=options.ca.get_secret_value() if options.ca else None,
        identity=(
            f"{certificate.get_secret_value()}\n{key.get_secret_value()}" if certificate and key else None
        ),
        proxy=options.proxy.get_secret_value() if options.proxy else None,
        http2=http2,
        connections=options.connections,
    )


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
