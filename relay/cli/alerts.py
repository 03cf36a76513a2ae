"""`relay alerts`: the alerts that are firing, and a test of the way that they take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli import common
from relay.errors import UsageError
from relay.operations.alerts import alert_document
from relay.operations.who import operator
from relay.settings.durations import format_duration
from relay.settings.models import Settings
from relay.store import alerts as store
from relay.store.alerts import Alert

LONGEST_WAIT = 3600.0

app = typer.Typer(
    help="Show the alerts that are firing, or send a test alert.",
    epilog="Example: `relay alerts test`",
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Show the alerts that are firing, or send a test alert.

    Example: `relay alerts test`
    """
    common.remember_config(context, config)
    if context.invoked_subcommand is not None:
        return
    settings = common.load_settings(context, config)
    if settings.alerts.provider is None:
        common.note(f"alerts are turned off: set `alerts.provider` in {settings.path}")
    firing = common.run(_firing(settings))
    if as_json:
        print(common.as_json([alert_document(alert) for alert in firing]))
    elif firing:
        for alert in firing:
            common.data.print(alert_document(alert)["text"], markup=False, highlight=False)
    else:
        common.note("no alert is firing")


@app.command("test")
def send_test_alert(
    context: typer.Context,
    wait: Annotated[
        str, typer.Option("--wait", metavar="DURATION", help="Wait for the outcome for this long.")
    ] = "30s",
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Send a test alert to `alerts.provider`, and wait for its outcome. Exit code 1 unless it is delivered.

    A worker must be running.

    Example: `relay alerts test --wait 1m`
    """
    from relay.operations.lanes import pause_seconds

    seconds = min(pause_seconds(wait, "--wait") or 0.0, LONGEST_WAIT)
    settings = common.load_settings(context, config)
    name = settings.alerts.provider
    if name is None:
        raise UsageError(f"alerts are turned off: set `alerts.provider` in {settings.path}")
    receipt = common.run(_test(settings, name, seconds))
    outcome = receipt["outcome"]
    if as_json:
        print(common.as_json(receipt))
    else:
        reason = f": {receipt['reason']}" if receipt.get("reason") else ""
        match outcome:
            case "delivered":
                common.note(f"{name} has delivered the test alert")
            case "waiting":
                common.note(
                    f"no outcome within {format_duration(seconds)}{reason}; `relay status {name}` shows the "
                    "state of the lane"
                )
            case _:
                common.note(f"{name} has not delivered the test alert: {outcome}{reason}")
    if outcome != "delivered":
        raise typer.Exit(1)


async def _firing(settings: Settings) -> list[Alert]:
    async with common.redis(settings) as client:
        return await store.firing(client, settings.redis.prefix)


async def _test(settings: Settings, name: str, wait: float) -> dict[str, Any]:
    from relay.engine.alert_test import send_test

    async with common.redis(settings) as client:
        adapter = common.providers(settings)[name]
        return await send_test(client, settings, adapter, who=operator(), wait=wait)
