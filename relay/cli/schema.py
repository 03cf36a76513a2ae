"""`relay schema`: JSON Schemas for editors and for producers' tests."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from relay.cli import common
from relay.message.schema import message_schema
from relay.provider import AdapterOptions, discover
from relay.settings.schema import config_schema


class Which(StrEnum):
    """The two documents that have a schema."""

    config = "config"
    message = "message"


def schema(
    which: Annotated[
        Which,
        typer.Argument(metavar="config|message", help="Schema of the configuration file, or of a message."),
    ],
) -> None:
    """Print a JSON Schema.

    Example: `relay schema config > relay.schema.json`
    """
    if which is Which.message:
        document = message_schema()
    else:
        adapters = discover()
        broken = adapters.broken()
        for error in broken.values():
            common.note(f"skipped: {error}")
        options = AdapterOptions(adapters)
        document = config_schema({name: options[name] for name in options if name not in broken})
    typer.echo(json.dumps(document, indent=2))
