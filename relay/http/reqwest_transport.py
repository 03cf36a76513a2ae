"""HTTP/2 (and HTTP/1.1 where the other side knows no better) through pyreqwest, for fixed hosts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from relay import __version__
from relay.errors import TransportError
from relay.http.transport import BODY_LIMIT, Unsendable
from relay.provider import Request, Response

if TYPE_CHECKING:
    from pyreqwest.client import Client

KEEP_ALIVE = 3600.0
"""Seconds that an idle connection is kept: Apple takes frequent reconnects for an attack."""

PING_EVERY, PING_TIMEOUT = 30.0, 10.0
"""Seconds: a connection whose other side is gone without a word is found out before it is needed."""

_LONGEST = 200
_ERRNO = re.compile(r" \(os error (\d+)\)$")


class ReqwestTransport:
    """One provider's connections. The client is made at the first request: idle providers cost nothing."""

    def __init__(
        self,
        *,
        timeout: float,
        concurrency: int,
        ca: str | None = None,
        identity: str | None = None,
        http2: bool = False,
    ) -> None:
        """`timeout` in seconds for a whole exchange. `ca` and `identity` (certificate and key) are PEM.

        `http2`: nothing else will do; otherwise both sides agree on it where they can.
        """
        self._seconds = timeout
        self._concurrency = concurrency
        self._ca = ca
        self._identity = identity
        self._http2 = http2
        self._client: Client | None = None

    async def send(self, request: Request) -> Response:
        from pyreqwest.exceptions import (
            BuilderError,
            PyreqwestError,
            RequestError,
            RequestTimeoutError,
        )

        if self._client is None:
            self._client = self._open()
        try:
            building = self._client.request(request.method, request.url).headers(dict(request.headers))
            if request.body:
                building = building.body_bytes(request.body)
            async with building.build_streamed() as answer:
                body = await answer.body_reader.read(BODY_LIMIT)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status, headers, b"" if body is None else bytes(body))
        except RequestTimeoutError:
            raise TransportError(f"no answer within {self._seconds:g} s") from None
        except BuilderError as error:
            raise Unsendable(f"the request cannot be sent: {_causes(error.details)[-1]}") from None
        except RequestError as error:
            raise TransportError(explain(error.details, request.url)) from error
        except PyreqwestError as error:
            raise TransportError(_cut(str(error))) from error
        except ValueError as error:
            raise Unsendable(f"the request cannot be sent: {_cut(str(error))}") from None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _open(self) -> Client:
        from pyreqwest.client import ClientBuilder

        builder = (
            ClientBuilder()
            .user_agent(f"relay/{__version__}")
            .http2(True)
            .http1_lower_case_headers()
            .http2_keep_alive_interval(timedelta(seconds=PING_EVERY))
            .http2_keep_alive_timeout(timedelta(seconds=PING_TIMEOUT))
            .http2_keep_alive_while_idle(True)
            .pool_idle_timeout(timedelta(seconds=KEEP_ALIVE))
            .timeout(timedelta(seconds=self._seconds))
            .max_connections(self._concurrency)
            .min_tls_version("TLSv1.2")
            .follow_redirects(False)
            .referer(False)
            .no_proxy()
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
        )
        if self._http2:
            builder = builder.http2_prior_knowledge()
        if self._ca:
            builder = builder.add_root_certificate_pem(self._ca.encode())
        if self._identity:
            builder = builder.identity_pem(self._identity.encode())
        return builder.build()


def explain(details: Mapping[str, object], url: str) -> str:
    """One line on why no answer came, from what pyreqwest knows of its causes."""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    causes = _causes(details)
    last = causes[-1]
    if found := _ERRNO.search(last):
        last = os.strerror(int(found[1])).lower()
    if "dns error" in causes:
        return f"DNS: {host} cannot be resolved: {_cut(last)}"
    if "tcp connect error" in causes:
        return f"cannot connect to {host}: {_cut(last)}"
    if any("certificate" in cause for cause in causes):
        return f"TLS: the certificate of {host} is refused: {_cut(last)}"
    if any("connection closed" in cause or "reset" in cause for cause in causes):
        return f"{host} closed the connection before it answered"
    return f"{host}: {_cut(last)}"


def _causes(details: Mapping[str, object]) -> list[str]:
    causes = details.get("causes")
    found = [str(cause["message"]) for cause in causes] if isinstance(causes, list) else []
    return found or ["unknown error"]


def _cut(text: str) -> str:
    line = " ".join(text[: 2 * _LONGEST].split())
    return "".join(character if character.isprintable() else "?" for character in line)[:_LONGEST]
