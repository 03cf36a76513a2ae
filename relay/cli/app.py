"""The commands by name. The module of a command is imported when the command runs."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from relay import __version__
from relay.cli.common import ConfigOption, remember_config
from relay.imports import without


class Entry(NamedTuple):
    """A command: its function (or group of commands), and its line in `relay --help`."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "init": Entry("init", "init", "Write a commented configuration file to start from."),
    "run": Entry("run", "run", "Run the workers: send messages from the queues to the providers."),
    "check": Entry("check", "check", "Validate the configuration and report all mistakes at once."),
    "push": Entry("push", "push", "Push one message, or one per line of standard input."),
    "status": Entry("status", "status", "Show queues, lanes and workers, or one provider with its groups."),
    "find": Entry("find", "find", "Find a message: its place, its attempts, and when it will be sent."),
    "health": Entry(
        "health_command",
        "health",
        "Exit with code 0 if the workers of this host are healthy, otherwise with 1 and the reason.",
    ),
    "dead": Entry("dead", "app", "List, retry, edit, export and delete dead letters."),
    "pause": Entry(
        "lanes",
        "pause",
        "Stop sending to a provider, or to one group. Messages are still accepted and wait.",
    ),
    "resume": Entry(
        "lanes", "resume", "Resume a paused provider or group, enable a disabled group, or end a hold early."
    ),
    "probe": Entry(
        "lanes",
        "probe",
        "Send one message immediately, of a provider that holds (an open breaker, refused credentials).",
    ),
    "rate": Entry(
        "rate",
        "rate",
        "Override the configured rate of a provider, over the whole fleet and without a restart.",
    ),
    "cancel": Entry("lanes", "cancel", "Cancel a message that is not in flight yet."),
    "send-next": Entry(
        "lanes",
        "send_next",
        "Move a waiting message to the head of its lane, or of its group if the lane has groups.",
    ),
    "audit": Entry("audit", "show_audit", "Show the actions of operators, with user, time and reason."),
    "console": Entry("console", "console", "Serve the operator's console, without a worker."),
    "alerts": Entry("alerts", "app", "Show the alerts that are firing, or send a test alert."),
    "reload": Entry(
        "reload",
        "reload",
        "Make every process of the fleet read its configuration file again, as SIGHUP does.",
    ),
    "worker": Entry("worker", "app", "Drain a worker, let it work again, or dismiss one that is gone."),
    "sandbox": Entry("sandbox", "sandbox", "Run local emulators of the providers, with fault injection."),
    "demo": Entry(
        "demo",
        "demo",
        "Show relay at work: a backlog of thousands is sent at the configured rate, and no faster.",
    ),
    "apns": Entry("apns", "app", "Broadcast channels of APNs: create, list and delete them."),
    "schema": Entry("schema", "schema", "Print a JSON Schema."),
    "providers": Entry(
        "providers", "providers", "List the built-in and installed adapters with their options."
    ),
    "vapid": Entry(
        "vapid",
        "vapid",
        "Create a key pair for Web Push: write the private key to a file, print the public key.",
    ),
}
LONG_LIVED = frozenset({"run", "console"})
"""Commands that log, and whose processes run for months."""


class LazyGroup(TyperGroup):
    """The root command. Only the module of the chosen command is imported, because lists need names and
    summaries."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: TyperCommand(name, help=entry.summary) for name, entry in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command to run."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(str(name)), rest


def load(name: str) -> TyperCommand | TyperGroup:
    """Import and return the command of that name."""
    entry = COMMANDS[name]
    if name in LONG_LIVED:
        # It would import rich (4 MiB) for tracebacks in a form that relay never uses.
        with without("rich"):
            import_module("structlog")
    # redis-py would import them (3 MiB) for metrics of its own.
    with without("opentelemetry.sdk.metrics"):
        found = getattr(import_module(f"relay.cli.{entry.module}"), entry.attribute)
    # Options for the completion of shells are those of `relay` alone.
    parent = _typer(add_completion=False)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
    else:
        parent.command(name)(found)
    command = typer.main.get_group(parent).commands[name]
    assert isinstance(command, TyperCommand | TyperGroup)
    return command


def _typer(**options: Any) -> typer.Typer:
    return typer.Typer(
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        **options,
    )


app = _typer(
    name="relay",
    cls=LazyGroup,
    help="Sends messages from Redis lists to push providers, at their pace, and loses nothing.",
    epilog="Start here: `relay demo` shows it at work, `relay init` writes a configuration file.",
    no_args_is_help=True,
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
    """Sends messages from Redis lists to push providers, at their pace, and loses nothing."""
    remember_config(context, config)
