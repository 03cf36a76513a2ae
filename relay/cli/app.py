"""The commands by name."""

from __future__ import annotations

from typing import Annotated

import typer

from relay import __version__
from relay.cli import check, dead, demo, lanes, providers, push, run, sandbox, schema, status, vapid
from relay.cli.common import ConfigOption, remember_config

app = typer.Typer(
    name="relay",
    help="Drains Redis lists into push providers, at their pace, and loses nothing.",
    epilog="Start here: `relay demo` shows it at work and needs nothing installed beside this package.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Drains Redis lists into push providers, at their pace, and loses nothing."""
    remember_config(context, config)


app.command()(run.run)
app.command()(check.check)
app.command()(push.push)
app.command()(status.status)
app.add_typer(dead.app, name="dead")
app.command()(lanes.pause)
app.command()(lanes.resume)
app.command()(lanes.cancel)
app.command()(sandbox.sandbox)
app.command()(demo.demo)
app.command()(schema.schema)
app.command()(providers.providers)
app.command()(vapid.vapid)
