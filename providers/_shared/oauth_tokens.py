"""OAuth 2.0 access tokens: read from the answer of a token endpoint, shared by all senders of a process.

Source: https://www.rfc-editor.org/rfc/rfc6749#section-5
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from relay.errors import TransportError
from relay.provider import Request, Response

from .answers import json_object, reason

LIFE = 3600
"""Lifetime in seconds of a token whose answer has none."""

MOST_LIFE = 86400
"""Longest time in seconds for which a token is used: some servers issue tokens for months."""

AHEAD = 0.2
"""A token is renewed when this share of its lifetime is left, give or take a tenth of the share."""

LAST_MOMENT = 60.0
"""A token is not used in its last seconds."""

QUIET = 10.0
"""Seconds to wait after a failure before the next attempt."""

_TOKEN = re.compile(r"[!-~]{1,8192}")
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_TRANSIENT_ERRORS = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})


class TokenRefused(Exception):
    """The token endpoint refuses our credentials. The text is one readable line."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Times are Unix seconds."""

    value: str
    renew_at: float
    ends_at: float


class Tokens:
    """Returns the token and renews it early, while senders continue with the old one."""

    def __init__(self, fetch: Callable[[], Awaitable[tuple[str, float]]], clock: Callable[[], float]) -> None:
        """`fetch` returns a token and its lifetime in seconds; raises TokenRefused or TransportError."""
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._flight: asyncio.Task[Token] | None = None
        self._failure: tuple[float, Exception] | None = None

    def current(self) -> str | None:
        """Return the token, or None if it is time to get a new one."""
        token = self._token
        return token.value if token is not None and self._clock() < token.renew_at else None

    async def get(self) -> str:
        """Return a valid token. Raises TokenRefused or TransportError."""
        now, token = self._clock(), self._token
        if token is not None and now < token.renew_at:
            return token.value
        if self._failure is not None and now < self._failure[0] + QUIET:
            if token is not None and now < token.ends_at:
                return token.value
            raise self._failure[1]
        if self._flight is None:
            self._flight = asyncio.create_task(self._renew())
            # Retrieve the exception even if no sender waits for the token.
            self._flight.add_done_callback(lambda flight: flight.cancelled() or flight.exception())
        if token is not None and now < token.ends_at:
            return token.value
        # Shielded, because the cancellation of one sender must not cancel the renewal for all others.
        return (await asyncio.shield(self._flight)).value

    def forget(self, value: str) -> None:
        """Drop a token that the provider refused, so that the next one is new."""
        if self._token is not None and self._token.value == value:
            self._token = None

    async def close(self) -> None:
        """Stop a renewal in progress."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _renew(self) -> Token:
        # Not at the top: short commands import adapters, and fetch no token.
        from tenacity import (
            AsyncRetrying,
            retry_if_exception_type,
            stop_after_attempt,
            wait_random_exponential,
        )

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransportError),
            wait=wait_random_exponential(multiplier=0.5, max=4),
            stop=stop_after_attempt(3),
            reraise=True,
        )
        try:
            found: tuple[str, float] = await retrying(self._fetch)
        except (TokenRefused, TransportError) as error:
            self._failure = (self._clock(), error)
            raise
        finally:
            self._flight = None
        now, (value, life) = self._clock(), found
        # Spread the renewals of processes that started together.
        ahead = life * AHEAD * random.uniform(0.9, 1.1)  # noqa: S311
        self._token = Token(value, now + life - ahead, now + life - LAST_MOMENT)
        self._failure = None
        return self._token


def read_token(response: Response) -> tuple[str, float]:
    """Return the token and its lifetime in seconds. Raises TokenRefused, or TransportError if a retry may
    help."""
    answer = json_object(response.body)
    token, life = answer.get("access_token"), _seconds(answer.get("expires_in"))
    if response.status == 200 and isinstance(token, str):
        # No request could be sent with any other token, and each message would become a dead letter.
        if not _TOKEN.fullmatch(token) or not life > 0:
            raise TransportError("the token endpoint returned an unusable token")
        return token, min(life, MOST_LIFE)
    error, description = str(answer.get("error") or ""), str(answer.get("error_description") or "")
    said = f"{response.status} {error} {description}".strip() if error else reason(response)
    if response.incomplete is not None:
        said = f"{response.status}, but {response.incomplete}"
    what = f"the token endpoint answered {said}"[:200]
    if response.status in _TRANSIENT or {error, description} & _TRANSIENT_ERRORS or not error:
        raise TransportError(what)
    raise TokenRefused(what)


def _seconds(value: object) -> float:
    if value is None:
        return LIFE
    try:
        return float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0.0


def with_token(request: Request, token: str) -> Request:
    """Return the request with an access token."""
    if not token:
        return request
    return msgspec.structs.replace(request, headers={**request.headers, "authorization": f"Bearer {token}"})
