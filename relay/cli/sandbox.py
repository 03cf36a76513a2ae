"""`relay sandbox`: stand-ins for the providers."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from relay.cli import common
from relay.errors import UsageError
from relay.sandbox.options import Faults, SandboxOptions


def sandbox(
    listen: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1:8089",
    fail: Annotated[str, typer.Option(help="Share of requests that get a 500, such as 5%.")] = "0%",
    latency: Annotated[str, typer.Option(help="How long answers take: 50ms, or 10ms-200ms.")] = "0ms",
    rate_limit: Annotated[
        str | None, typer.Option(help="Messages a second beyond which the answer is 429, such as 100/s.")
    ] = None,
    hang: Annotated[str, typer.Option(help="Share of requests that are never answered.")] = "0%",
    reset: Annotated[str, typer.Option(help="Share of connections that break in mid-answer.")] = "0%",
    seed: Annotated[int | None, typer.Option(help="Makes the faults repeatable.")] = None,
    app_id: Annotated[str, typer.Option(help="Pusher app id.")] = SandboxOptions.app_id,
    key: Annotated[str, typer.Option(help="Pusher key.")] = SandboxOptions.key,
    secret: Annotated[str, typer.Option(help="Pusher secret.")] = SandboxOptions.secret,
    webhook_secret: Annotated[
        str, typer.Option(help="Secret of the webhook receiver.")
    ] = SandboxOptions.webhook_secret,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each request.")] = False,
) -> None:
    """Run local stand-ins for the providers, as strict as the real ones, with faults to order.

    Its page shows what came in. Faults can be changed while it runs: POST /_sandbox/faults.

    Example: `relay sandbox --fail 5% --rate-limit 100/s`
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen: {listen!r} is no HOST:PORT")
    orders: dict[str, Any] = {"fail": fail, "latency": latency, "hang": hang, "reset": reset}
    if rate_limit is not None:
        orders["rate_limit"] = rate_limit
    try:
        faults = Faults.model_validate(orders)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option}: {first['msg'].removeprefix('Value error, ')}") from None
    options = SandboxOptions(host.strip("[]"), int(port), app_id, key, secret, webhook_secret, faults, seed)
    common.run(_serve(options, quiet=quiet))


async def _serve(options: SandboxOptions, *, quiet: bool) -> None:
    # The server is heavy: only this command loads it.
    from relay.sandbox.server import Sandbox

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def show(line: str) -> None:
        if not quiet:
            typer.echo(line)

    try:
        async with Sandbox(options, on_request=show) as running:
            common.notes.print(
                f"[bold]sandbox[/] at {running.url}/ (its page shows what comes in)\n", highlight=False
            )
            common.notes.print(running.providers_yaml(), markup=False, highlight=False)
            await stop.wait()
            for provider, counts in running.journal.stats().items():
                common.notes.print(
                    f"{provider}: {counts['accepted']} accepted, {counts['refused']} refused, "
                    f"{counts['duplicates']} duplicates in {counts['requests']} requests",
                    highlight=False,
                )
    except OSError as error:
        raise UsageError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror or error}"
        ) from error
