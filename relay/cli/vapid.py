"""`relay vapid`: creates the key pair that identifies you to push services (RFC 8292)."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Annotated

import typer

from relay.cli import common
from relay.errors import UsageError


def vapid(
    out: Annotated[
        Path, typer.Option("--out", help="File for the private key. An existing file is never overwritten.")
    ] = Path("vapid.pem"),
) -> None:
    """Create a key pair for Web Push: write the private key to a file, print the public key.

    Example: `relay vapid --out vapid.pem`
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{out} exists already; overwriting it would end all subscriptions made with its key"
        ) from None
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    public = base64.urlsafe_b64encode(point).decode().rstrip("=")
    common.data.print(f"applicationServerKey: {public}", highlight=False)
    common.notes.print(
        f"The private key is in {out}: give it to the provider as `private_key_file: {out}`, and the key\n"
        "above to `pushManager.subscribe`. Keep both: a subscription is bound to them.",
        highlight=False,
    )
