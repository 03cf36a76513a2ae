"""Provider tokens of APNs.

Source:
https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LIFETIME = 2400
"""Seconds for which a token is used. Apple allows 20 to 60 minutes."""

MIN_AGE = 1200
"""A token younger than this (seconds) is never replaced, because APNs limits the rate of new tokens."""


class ProviderToken:
    """The ES256 token of one key. All senders of a process share it.

    The time of issue is the start of a 40-minute span of the clock, so that all processes of a fleet use
    tokens of the same age and a restart does not issue a new one.
    """

    def __init__(self, key: Any, key_id: str, team_id: str, clock: Callable[[], float]) -> None:
        self._key = key
        self._key_id = key_id
        self._team_id = team_id
        self._clock = clock
        self._issued = 0
        self._header = ""

    @property
    def header(self) -> str:
        """The value of the header `authorization`."""
        now = int(self._clock())
        if not self._header or not 0 <= now - self._issued < LIFETIME:
            self._issue(now - now % LIFETIME)
        return self._header

    def replaces(self, used: str) -> bool:
        """Return whether there is another token than `used`, which has expired.

        Issues one if this token is old enough: Apple's clock may be ahead of ours.
        """
        now = int(self._clock())
        if used == self._header and now - self._issued >= MIN_AGE:
            self._issue(now)
        return used != self._header

    def _issue(self, issued: int) -> None:
        import jwt

        token = jwt.encode(
            {"iss": self._team_id, "iat": issued},
            self._key,
            algorithm="ES256",
            headers={"kid": self._key_id},
        )
        self._issued = issued
        self._header = f"bearer {token}"


def read_key(text: str) -> Any:
    """Read the private key of a .p8 file. Raises ValueError, one line."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), None)
    except Exception as error:  # cryptography raises several unrelated types
        raise ValueError("must be the .p8 file that Apple issues: a PEM private key") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("must be a P-256 key, like Apple's .p8 files")
    return key
