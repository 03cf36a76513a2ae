"""New files with private keys, which never replace a file that exists."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.errors import UsageError
from relay.settings.example import PLACEHOLDER


@dataclass(frozen=True)
class KeyFile:
    """The key file that a type of provider needs, made by relay."""

    make: Callable[[], bytes]
    origin: str
    """The place to get the real one; empty if this is a real one."""


def new_vapid_key() -> bytes:
    """Make the key pair that identifies you to push services (RFC 8292)."""
    from relay.sandbox.certificates import new_key

    return new_key()


def application_server_key(pem: bytes) -> str:
    """Return the public part of a VAPID key, as `pushManager.subscribe` takes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from relay.sandbox.certificates import private_key

    point = private_key(pem).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return base64.urlsafe_b64encode(point).decode().rstrip("=")


def _service_account() -> bytes:
    from relay.sandbox.fcm_account import make

    return make(PLACEHOLDER)


def _signing_key() -> bytes:
    from relay.sandbox.certificates import new_key

    # Text before the first line of PEM is a comment.
    return f"{PLACEHOLDER}: put Apple's .p8 file here\n".encode() + new_key()


KEY_FILES: Mapping[str, KeyFile] = {
    "fcm": KeyFile(_service_account, "the key of a service account, from the Firebase console"),
    "apns": KeyFile(_signing_key, "the .p8 file that Apple issued"),
    "webpush": KeyFile(new_vapid_key, ""),
}
"""By type of provider."""


def write_new(path: Path, content: bytes) -> None:
    """Write a file that only this user can read. Raises FileExistsError, or UsageError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
