"""`relay rate`: overrides the configured rate of a provider, immediately and over the whole fleet."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import common
from relay.cli.lanes import BecauseOption, ProviderArgument
from relay.errors import UsageError
from relay.operations import rates
from relay.operations.lanes import pause_seconds
from relay.operations.providers import require_provider
from relay.operations.who import operator
from relay.settings.durations import format_duration


def rate(
    context: typer.Context,
    provider: ProviderArgument,
    new: Annotated[
        str | None,
        typer.Argument(metavar="RATE", help="New rate, such as `50/s`, or several: `50/s,1000/h`."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Return to the configured rate.")] = False,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help="End the override after this time. Default: never."),
    ] = None,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Override the configured rate of a provider, over the whole fleet and without a restart.

    Example: `relay rate pusher 50/s --for 1h --because "they asked for less"`
    """
    settings = common.load_settings(context, config)
    require_provider(settings, provider)
    if reset:
        if new is not None or duration is not None:
            raise UsageError("--reset takes neither a rate nor --for")
        was_set = common.act(settings, rates.reset_rate, provider, because=because, who=operator())
        common.note(f"{provider} sends at its configured rate{'' if was_set else ' already'}")
        return
    if new is None:
        raise UsageError("write a rate such as 50/s, or --reset to return to the configured one")
    seconds = pause_seconds(duration)
    order = common.act(
        settings,
        rates.set_rate,
        provider,
        rates.parse_rates(new),
        seconds=seconds,
        because=because,
        who=operator(),
    )
    ends = "until `relay rate --reset`" if seconds is None else f"for {format_duration(seconds)}"
    common.note(f"{provider} sends {order.text} {ends}")
