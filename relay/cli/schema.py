"""`relay schema`: JSON Schemas for editors and for producers' tests."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from relay.message_schema import message_schema
from relay.provider import discover
from relay.settings.schema import config_schema


class Which(StrEnum):
    """The two documents that have a schema."""

    config = "config"
    message = "message"


def schema(
    which: Annotated[Which, typer.Argument(help="The configuration file, or a queue element.")],
) -> None:
    """Print a JSON Schema.

    Example: `relay schema config > relay.schema.json`
    """
    if which is Which.message:
        document = message_schema()
    else:
        document = config_schema({name: adapter.Options for name, adapter in discover().items()})
    typer.echo(json.dumps(document, indent=2))
