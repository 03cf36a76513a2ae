"""`relay demo`: relay at work in one terminal, with no other software."""

from __future__ import annotations

from typing import Annotated

import typer

from relay import logs
from relay.cli import common


def demo(
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Stop after this many seconds. Default: at Ctrl-C.")
    ] = None,
) -> None:
    """Show relay at work: a backlog of thousands is sent at the configured rate, and no faster.

    The demo starts an embedded Redis, emulators of Pusher and of a webhook receiver, producers and a worker
    with its console, all on free ports of this machine. At the end it stops all of them and leaves nothing
    behind.

    Example: `relay demo --seconds 20`
    """
    logs.configure("error")
    # The demo is slow to import, so only this command does it.
    from relay.cli.demo_view import show

    common.run(show(seconds), common.fastest_loop())
