"""The sandbox's certificate authority, its certificates, and the keys of its users.

They are new at each start, or kept in a folder so that a configuration stays valid.
"""

from __future__ import annotations

import fcntl
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from relay.errors import UsageError
from relay.sandbox import certificates, fcm_account

CA, CA_KEY, SIGNING_KEY, CLIENT, CLIENT_KEY = "ca.pem", "ca.key", "apns.p8", "client.pem", "client.key"
ACCOUNT, VAPID = "fcm.json", "vapid.pem"


@dataclass(frozen=True)
class Identity:
    """PEM texts, and the JSON of a service account. `folder` stores them, if there is one."""

    ca: bytes
    ca_key: bytes
    signing_key: bytes
    """The key of APNs provider tokens, like the .p8 file that Apple issues."""
    client: bytes
    """A certificate for clients of APNs that authenticate without a token; `client_key` is its key."""
    client_key: bytes
    account: bytes
    """The key file of a service account, as the Firebase console issues it."""
    vapid_key: bytes
    """The VAPID key of a web page."""
    folder: Path | None = None

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public key that verifies provider tokens."""
        return certificates.private_key(self.signing_key).public_key()

    def context(self, host: str) -> ssl.SSLContext:
        """Return a TLS context for a server that clients reach on this host or as `host`."""
        return certificates.context(self.ca, self.ca_key, host)

    def files(self) -> dict[str, bytes]:
        """Return the files that clients need, by name."""
        return {
            CA: self.ca,
            SIGNING_KEY: self.signing_key,
            CLIENT: self.client,
            CLIENT_KEY: self.client_key,
            ACCOUNT: self.account,
            VAPID: self.vapid_key,
        }

    def option(self, option: str, name: str) -> dict[str, str]:
        """Return a file as an option of relay's configuration: its path if it is kept, otherwise its text."""
        if self.folder is not None:
            return {f"{option}_file": str(self.folder / name)}
        return {option: self.files()[name].decode()}


def identify(folder: Path | None, topic: str) -> Identity:
    """Load the identity from the folder. Missing files are created there.

    `topic` is the app of the client certificate. Raises UsageError.
    """
    if folder is None:
        return _identify(_Drawer(None), topic)
    try:
        folder = folder.expanduser().resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder):
            return _identify(_Drawer(folder), topic)
    except OSError as error:
        raise UsageError(f"--dir: {error.filename or folder}: {error.strerror or error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm, msgspec.MsgspecError) as error:
        raise UsageError(
            f"--dir: {folder} holds a key or certificate that cannot be read: {error}"
        ) from error


def _identify(drawer: _Drawer, topic: str) -> Identity:
    ca_key = drawer.find(CA_KEY, certificates.new_key)
    ca = drawer.find(CA, lambda: certificates.authority(ca_key))
    if not certificates.belongs(ca, ca_key):
        raise ValueError(f"{CA_KEY} is not the key of {CA}; remove both")
    signing_key = drawer.find(SIGNING_KEY, certificates.new_key)
    vapid_key = drawer.find(VAPID, certificates.new_key)
    for key in (signing_key, vapid_key):
        certificates.private_key(key)
    account = drawer.find(ACCOUNT, fcm_account.make if drawer.folder else _throwaway_account)
    fcm_account.read(account)
    client, client_key = drawer.find_pair(
        CLIENT, CLIENT_KEY, lambda: certificates.client(ca, ca_key, topic or "any")
    )
    return Identity(ca, ca_key, signing_key, client, client_key, account, vapid_key, drawer.folder)


# An RSA key takes a while to generate, so the sandboxes of a process share one that is not kept.
_throwaway_account = lru_cache(maxsize=1)(fcm_account.make)


@dataclass(frozen=True)
class _Drawer:
    """Loads files from a folder and creates missing ones. Without a folder, files are created and not
    kept."""

    folder: Path | None

    def find(self, name: str, make: Callable[[], bytes]) -> bytes:
        if self.folder is not None and (self.folder / name).exists():
            return (self.folder / name).read_bytes()
        return self._keep(name, make())

    def find_pair(self, one: str, other: str, make: Callable[[], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        if self.folder is not None and all((self.folder / name).exists() for name in (one, other)):
            return (self.folder / one).read_bytes(), (self.folder / other).read_bytes()
        first, second = make()
        return self._keep(one, first), self._keep(other, second)

    def _keep(self, name: str, content: bytes) -> bytes:
        if self.folder is not None:
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)
        return content


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the folder: two sandboxes that start together must not each create half of the files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
