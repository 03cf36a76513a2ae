"""OAuth 2.0 access tokens of Google service accounts: one for all senders of a process.

Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from providers._shared.answers import json_object
from relay.errors import TransportError
from relay.http.threads import in_thread
from relay.http.transport import Transport
from relay.provider import Request, Response

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

LIFE = 3600
"""Seconds that an assertion is valid: the most that Google allows."""

MOST_LIFE = 86400
"""Seconds of life of a token that are believed."""

AHEAD = 0.2
"""The share of a token's life before whose end it is renewed, give or take a tenth of that."""

LAST_MOMENT = 60.0
"""Seconds before its end from which a token is not used any more."""

QUIET = 10.0
"""Seconds after a failure during which nobody asks again."""

_TOKEN = re.compile(r"[!-~]{1,8192}")
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_TRANSIENT_ERRORS = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})


class TokenRefused(Exception):
    """The token endpoint does not accept our credentials; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Times are Unix seconds."""

    value: str
    renew_at: float
    ends_at: float


class Tokens:
    """Gives the token, and renews it ahead of its end while senders go on with the old one."""

    def __init__(self, fetch: Callable[[], Awaitable[tuple[str, float]]], clock: Callable[[], float]) -> None:
        """`fetch` gives a token and its seconds of life; raises TokenRefused or TransportError."""
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._flight: asyncio.Task[Token] | None = None
        self._failure: tuple[float, Exception] | None = None

    async def get(self) -> str:
        """A token that is valid now. Raises TokenRefused or TransportError."""
        now, token = self._clock(), self._token
        if token is not None and now < token.renew_at:
            return token.value
        if self._failure is not None and now < self._failure[0] + QUIET:
            if token is not None and now < token.ends_at:
                return token.value
            raise self._failure[1]
        if self._flight is None:
            self._flight = asyncio.create_task(self._renew())
            # Whether or not somebody waits for it.
            self._flight.add_done_callback(lambda flight: flight.cancelled() or flight.exception())
        if token is not None and now < token.ends_at:
            return token.value
        # A sender that is cancelled must not take the token away from all others.
        return (await asyncio.shield(self._flight)).value

    def forget(self, value: str) -> None:
        """The provider refused this token: the next one is a new one."""
        if self._token is not None and self._token.value == value:
            self._token = None

    async def close(self) -> None:
        """Stop a renewal under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _renew(self) -> Token:
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
        # Several processes that started together do not ask together.
        ahead = life * AHEAD * random.uniform(0.9, 1.1)  # noqa: S311
        self._token = Token(value, now + life - ahead, now + life - LAST_MOMENT)
        self._failure = None
        return self._token


def preload(credentials: Literal["service_account", "adc"]) -> None:
    """Import what a token needs. It is slow, so only a worker does it, and before its first message."""
    from google.auth import crypt, jwt  # noqa: F401

    if credentials == "adc":
        from google.auth.transport import requests  # noqa: F401


def read_private_key(pem: str) -> Any:
    """A service account's RSA key. Raises ValueError.

    Whether its numbers fit together is not looked at: that takes 36 ms of the loop's time, and Google refuses
    a key that does not all the same.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"cannot be read: {type(error).__name__}") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("is no RSA key")
    return key


def assertion_request(account: dict[str, Any], token_uri: str, now: float) -> Request:
    """The request that trades a signed assertion for a token. `account` is a service account's key file."""
    from google.auth import crypt, jwt

    signer = crypt.RSASigner(read_private_key(account["private_key"]), account["private_key_id"])  # type: ignore[no-untyped-call]
    claims = {
        "iss": account["client_email"],
        "scope": SCOPE,
        "aud": account["token_uri"],
        "iat": int(now),
        "exp": int(now) + LIFE,
    }
    assertion: bytes = jwt.encode(signer, claims)  # type: ignore[no-untyped-call]
    body = urlencode({"grant_type": GRANT, "assertion": assertion.decode()})
    return Request(token_uri, body.encode(), {"content-type": "application/x-www-form-urlencoded"})


def read_token(response: Response) -> tuple[str, float]:
    """The token and its seconds of life. Raises TokenRefused; TransportError where another try may help."""
    answer = json_object(response.body)
    token, life = answer.get("access_token"), _seconds(answer.get("expires_in", LIFE))
    if response.status == 200 and isinstance(token, str):
        # Any other token would make each request one that cannot be sent, and each message a dead letter.
        if not _TOKEN.fullmatch(token) or not 0 < life <= MOST_LIFE:
            raise TransportError("the token endpoint gave a token that cannot be used")
        return token, life
    error, description = str(answer.get("error", "")), str(answer.get("error_description", ""))
    what = f"the token endpoint answered {response.status} {error} {description}".strip()[:200]
    if response.status in _TRANSIENT or {error, description} & _TRANSIENT_ERRORS or not error:
        raise TransportError(what)
    raise TokenRefused(what)


def _seconds(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0.0


async def fetch_by_assertion(
    transport: Transport, account: dict[str, Any], token_uri: str, now: float
) -> tuple[str, float]:
    """A token for a service account. Raises TokenRefused or TransportError."""
    return read_token(await transport.send(assertion_request(account, token_uri, now)))


async def fetch_by_default_credentials(now: float, seconds: float) -> tuple[str, float]:
    """A token for Application Default Credentials within `seconds`, in a thread: google-auth blocks.

    Raises TokenRefused or TransportError.
    """
    from google.auth.exceptions import DefaultCredentialsError, RefreshError
    from google.auth.exceptions import TransportError as GoogleTransportError

    try:
        return await in_thread(partial(_refresh_default, now, seconds), seconds)
    except (DefaultCredentialsError, RefreshError) as error:
        raise TokenRefused(f"application default credentials: {error}"[:200]) from error
    except GoogleTransportError as error:
        raise TransportError(f"application default credentials: {error}"[:200]) from error
    except TimeoutError:
        raise TransportError(f"application default credentials: no token within {seconds:g} s") from None


def _refresh_default(now: float, seconds: float) -> tuple[str, float]:
    import google.auth
    import requests
    from google.auth.transport.requests import Request as Transported

    with requests.Session() as session:
        session.trust_env = False
        session.max_redirects = 0
        # google-auth allows 120 s for each of its requests.
        request: Any = partial(Transported(session), timeout=seconds)
        credentials, _ = google.auth.default(scopes=[SCOPE], request=request)
        credentials.refresh(request)  # type: ignore[no-untyped-call]
    # Google's times are UTC without saying so.
    expiry = credentials.expiry.replace(tzinfo=UTC).timestamp() if credentials.expiry else now + LIFE
    return str(credentials.token), expiry - now
