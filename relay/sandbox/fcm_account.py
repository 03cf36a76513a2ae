"""A Google service account and its access tokens.

Source: https://developers.google.com/identity/protocols/oauth2/service-account
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

PROJECT = "relay-sandbox"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
LIFE = 3599
"""Lifetime of an access token, in seconds."""

_PREFIX = "ya29.c."


@dataclass(frozen=True)
class Account:
    """An account as the endpoints see it. Access tokens are signed, so they stay valid over a restart."""

    project: str
    email: str
    key_id: str
    key: rsa.RSAPublicKey
    secret: bytes

    def grant(self, now: float) -> str:
        """Return an access token that is valid from `now`."""
        end = str(int(now) + LIFE)
        return f"{_PREFIX}{end}.{self._mark(end)}"

    def knows(self, token: str, now: float) -> bool:
        """Return whether the account has issued the token, and it is still valid."""
        end, _, mark = token.removeprefix(_PREFIX).partition(".")
        if not token.startswith(_PREFIX) or not mark.isascii():
            return False
        return hmac.compare_digest(mark, self._mark(end)) and now < int(end)

    def _mark(self, end: str) -> str:
        return hmac.digest(self.secret, end.encode("utf-8", "surrogateescape"), "sha256").hex()


def make(project: str = PROJECT) -> bytes:
    """Make a key file like the ones of the Firebase console."""
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    document = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": hashlib.sha256(public).hexdigest()[:40],
        "private_key": pem.decode(),
        "client_email": f"relay@{project}.iam.gserviceaccount.com",
        "client_id": "100000000000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": TOKEN_URI,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


class _File(msgspec.Struct):
    project_id: str
    private_key_id: str
    private_key: str
    client_email: str


@lru_cache(maxsize=8)
def read(document: bytes) -> Account:
    """Read a key file. Raises the errors of its parsers, which `identity.identify` handles."""
    found = msgspec.json.decode(document, type=_File)
    key = load_pem_private_key(found.private_key.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the private_key of a service account is an RSA key")
    secret = hashlib.sha256(b"access tokens " + found.private_key.encode()).digest()
    return Account(found.project_id, found.client_email, found.private_key_id, key.public_key(), secret)
