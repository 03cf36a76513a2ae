"""`relay vapid`: creates the key pair that identifies you to push services (RFC 8292)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relay.cli import common
from relay.cli.key_files import application_server_key, new_vapid_key, write_new
from relay.errors import UsageError


def vapid(
    out: Annotated[
        Path, typer.Option("--out", help="File for the private key. An existing file is never overwritten.")
    ] = Path("vapid.pem"),
) -> None:
    """Create a key pair for Web Push: write the private key to a file, print the public key.

    Example: `relay vapid --out vapid.pem`
    """
    key = new_vapid_key()
    try:
        write_new(out, key)
    except FileExistsError:
        raise UsageError(
            f"{out} exists already; overwriting it would end all subscriptions made with its key"
        ) from None
    common.data.print(f"applicationServerKey: {application_server_key(key)}", highlight=False)
    common.notes.print(
        f"The private key is in {out}: give it to the provider as `private_key_file: {out}`, and the key\n"
        "above to `pushManager.subscribe`. Keep both: a subscription is bound to them.",
        highlight=False,
    )
