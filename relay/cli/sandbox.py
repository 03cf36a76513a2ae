"""`relay sandbox`: local emulators of the providers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from relay.cli import common
from relay.errors import UsageError
from relay.sandbox.options import Faults, SandboxOptions
from relay.settings.models import is_loopback
from relay.settings.tokens import token_problem


def sandbox(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address to listen on. Port 0: any free port.")
    ] = "127.0.0.1:8089",
    fail: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Answer this share of requests with 500, such as 5%.")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Delay responses by this time, such as 50ms or 10ms-200ms."),
    ] = None,
    rate_limit: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="Answer messages above this rate with 429, such as 100/s."),
    ] = None,
    hang: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Never answer this share of requests, such as 1%.")
    ] = None,
    reset: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Break this share of connections in the middle of a response, such as 1%."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the faults, which makes them repeatable.")] = None,
    app_id: Annotated[str, typer.Option(help="App id at Pusher.")] = SandboxOptions.app_id,
    key: Annotated[str, typer.Option(help="Key at Pusher.")] = SandboxOptions.key,
    secret: Annotated[str, typer.Option(help="Secret at Pusher.")] = SandboxOptions.secret,
    webhook_secret: Annotated[
        str, typer.Option(help='Secret of the webhook receiver; "" accepts webhooks without a signature.')
    ] = SandboxOptions.webhook_secret,
    unregistered: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Report this share of devices and endpoints as gone, such as 1%."),
    ] = None,
    apns_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the HTTP/2 server (APNs). Default: the one after `--listen`, if it is free.",
        ),
    ] = None,
    apns_topic: Annotated[
        str, typer.Option(help='Bundle id of the app that APNs accepts pushes for; "" accepts every topic.')
    ] = SandboxOptions.apns_topic,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Folder of keys and certificates. Default: relay/sandbox in your cache folder."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RELAY_SANDBOX_TOKEN",
            show_envvar=False,
            help="Token of the page and /_sandbox/ (bearer token, or password in a browser). "
            "Required beyond loopback. Default: $RELAY_SANDBOX_TOKEN.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Do not print a line for each request.")
    ] = False,
) -> None:
    """Run local emulators of the providers, with fault injection.

    The emulators are as strict as the real services. A web page shows the messages that arrived. To change
    the faults of a running sandbox, POST to `/_sandbox/faults`. The URL of a webhook can contain faults, too:
    `/webhook/x?status=503&retry_after=2&times=3`

    Example: `relay sandbox --fail 5% --latency 10ms-200ms --rate-limit 100/s`
    """
    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"--listen: {listen!r} is not HOST:PORT; write 127.0.0.1:8089")
    if token is not None and (problem := token_problem(token)):
        raise UsageError(f"--token: {problem}")
    if token is None and not is_loopback(listen):
        raise UsageError(
            f"--listen: {listen} can be reached from other hosts, and the sandbox shows messages and "
            "private keys: set --token, or listen on 127.0.0.1"
        )
    orders = {"fail": fail, "latency": latency, "rate_limit": rate_limit, "hang": hang, "reset": reset}
    orders["unregistered"] = unregistered
    faults = _faults({name: order for name, order in orders.items() if order is not None})
    options = SandboxOptions(
        host=host.strip("[]"),
        port=int(port),
        app_id=app_id,
        key=key,
        secret=secret,
        webhook_secret=webhook_secret,
        apns_port=apns_port,
        apns_topic=apns_topic,
        folder=directory or kept_keys(),
        faults=faults,
        seed=seed,
        token=token or "",
    )
    common.run(_serve(options, _Lines(quiet=quiet)), common.fastest_loop())


def kept_keys() -> Path | None:
    """Return the folder for keys, so that a configuration stays valid; None if it cannot be written."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = cache / "relay" / "sandbox"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK) else None


def _faults(orders: dict[str, Any]) -> Faults:
    try:
        return Faults.model_validate(orders)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option}: {first['msg'].removeprefix('Value error, ')}") from None


class _Lines:
    """Prints to standard output until its reader closes it (`| head`). Requests are answered regardless."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def show(self, line: str) -> None:
        if self.quiet:
            return
        try:
            typer.echo(line)
        except OSError:
            self.quiet = True
            # Otherwise the rest of the buffer would fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _serve(options: SandboxOptions, lines: _Lines) -> None:
    # The server is slow to import, so only this command does it.
    from relay.sandbox.server import NO_APNS, Sandbox

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        running = Sandbox(options, None if lines.quiet else lines.show)
    except ValueError as error:
        raise UsageError(f"--webhook-secret: {error}") from None
    try:
        await running.start()
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"cannot listen on {options.host}:{options.port}: {_reason(error)}; --listen takes another"
        ) from None
    try:
        common.notes.print(
            f"[bold]sandbox[/] at {running.url}/ (the page shows received messages)\n",
            highlight=False,
        )
        # No line breaks at the terminal's width, so that paths can be copied.
        common.notes.print(running.providers_yaml(), markup=False, highlight=False, soft_wrap=True)
        if not running.has_apns:
            common.notes.print(f"# {NO_APNS}", markup=False, highlight=False, soft_wrap=True)
        common.notes.print(
            f"# A browser's subscription to push to: curl {running.url}/_sandbox/subscriptions\n",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        await stop.wait()
    finally:
        await running.stop()
    _summarise(running.request_log.stats())


def _reason(error: OSError | UnicodeError) -> str:
    """Return the system's error text, because asyncio's message repeats the address."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error)


def _summarise(stats: dict[str, dict[str, Any]]) -> None:
    if not stats:
        common.notes.print("no requests", highlight=False)
    for provider, counts in stats.items():
        common.notes.print(
            f"{provider}: {counts['accepted']} accepted, {counts['refused']} refused, "
            f"{counts['unanswered']} unanswered, {counts['duplicates']} duplicates "
            f"in {counts['requests']} requests",
            highlight=False,
        )
