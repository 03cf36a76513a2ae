"""OAuth 2.0 access tokens of Google service accounts.

Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

from datetime import UTC
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode

from relay.errors import TransportError
from relay.http.threads import in_thread
from relay.http.transport import Transport
from relay.provider import Request

from .oauth_tokens import TokenRefused, read_token

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

LIFE = 3600
"""Lifetime of an assertion in seconds, the maximum that Google allows."""


def preload(credentials: Literal["service_account", "adc"]) -> None:
    """Import the modules that a token needs. That is slow, so only workers do it, before the first
    message."""
    if credentials == "adc":
        from google.auth.transport import requests  # noqa: F401
    else:
        import jwt  # noqa: F401


def read_private_key(pem: str) -> Any:
    """Read the RSA key of a service account. Raises ValueError.

    Skips the check of the key's numbers, which would block the loop for 36 ms. Google refuses such a key
    anyway.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"cannot be read: {type(error).__name__}") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("is not an RSA key")
    return key


def assertion_request(account: dict[str, Any], token_uri: str, now: float) -> Request:
    """Return the request that exchanges a signed assertion for a token. `account` is the key file."""
    import jwt

    claims = {
        "iss": account["client_email"],
        "scope": SCOPE,
        "aud": account["token_uri"],
        "iat": int(now),
        "exp": int(now) + LIFE,
    }
    key = read_private_key(account["private_key"])
    assertion = jwt.encode(claims, key, algorithm="RS256", headers={"kid": account["private_key_id"]})
    body = urlencode({"grant_type": GRANT, "assertion": assertion})
    return Request(token_uri, body.encode(), {"content-type": "application/x-www-form-urlencoded"})


async def fetch_by_assertion(
    transport: Transport, account: dict[str, Any], token_uri: str, now: float
) -> tuple[str, float]:
    """Fetch a token for a service account. Raises TokenRefused or TransportError."""
    return read_token(await transport.send(assertion_request(account, token_uri, now)))


async def fetch_by_default_credentials(now: float, seconds: float) -> tuple[str, float]:
    """Fetch a token for Application Default Credentials within `seconds`, in a thread, because google-auth
    blocks.

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
        # google-auth would allow 120 s for each of its requests.
        request: Any = partial(Transported(session), timeout=seconds)
        credentials, _ = google.auth.default(scopes=[SCOPE], request=request)
        credentials.refresh(request)  # type: ignore[no-untyped-call]
    # Google's naive times are in UTC.
    expiry = credentials.expiry.replace(tzinfo=UTC).timestamp() if credentials.expiry else now + LIFE
    return str(credentials.token), expiry - now
