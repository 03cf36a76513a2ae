"""Passwords and certificates that may change while relay runs: each new connection reads them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.credentials import CredentialProvider

from relay.settings.redis_url import split_url

ReadUrl = Callable[[], str]
"""Returns the URL of Redis as it is now. Raises OSError or ValueError if it cannot be read."""


class UrlCredentials(CredentialProvider):
    """User and password of a URL, read for each new connection."""

    def __init__(self, read_url: ReadUrl) -> None:
        self._read_url = read_url
        self._last: tuple[str, ...] = ()

    def get_credentials(self) -> Any:
        """Return the arguments of AUTH: (), (password,) or (user, password). If the URL cannot be read, the
        previous ones."""
        try:
            self._last = credentials(self._read_url())
        except (OSError, ValueError) as error:
            # Short commands use this module too, and structlog imports rich.
            import structlog

            structlog.get_logger().warning(
                "cannot read `redis.url_file` again: the old password stays", error=str(error)
            )
        return self._last

    async def get_credentials_async(self) -> Any:
        return self.get_credentials()


def credentials(url: str) -> tuple[str, ...]:
    """Return the arguments of AUTH for this URL; none if it has neither user nor password."""
    userinfo = split_url(url).netloc.rpartition("@")[0]
    user, _, password = (unquote(part) for part in userinfo.partition(":"))
    if user:
        return (user, password)
    return (password,) if password else ()


class TlsConnection(SSLConnection):
    """Reads its certificates at each connection attempt, because they may have been renewed."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        self.ssl_context.context = None
        return super()._connection_arguments()


class SentinelTlsConnection(SentinelManagedConnection, TlsConnection):
    """The same, for the master that the sentinels name."""
