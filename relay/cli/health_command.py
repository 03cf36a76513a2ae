"""The options of `relay health`, for `--help` and for words that the fast path does not know."""

from __future__ import annotations

import typer

from relay.cli import common
from relay.cli.health import probe


def health(
    context: typer.Context, config: common.ConfigOption = None, as_json: common.JsonOption = False
) -> None:
    """Exit with code 0 if the workers of this host are healthy, otherwise with 1 and the reason.

    A probe for containers: it asks the admin port, and if that is off or silent, it looks for the heartbeats
    of this host's workers in Redis.

    Example: `relay health -c /etc/relay.yaml`
    """
    raise typer.Exit(probe(common.config_path(context, config), as_json=as_json))
