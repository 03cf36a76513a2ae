"""`relay pause`, `resume`, `probe`, `cancel` and `send-next`: immediately, over the whole fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relay.cli import common
from relay.operations import lanes
from relay.operations.providers import require_provider
from relay.operations.who import operator
from relay.settings.durations import format_duration
from relay.settings.models import Settings

ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="Name of a configured provider.")]
MessageArgument = Annotated[str, typer.Argument(metavar="ID", help="`id` of the message.")]
GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group", "-g", metavar="NAME", help="Only this group, as `relay status PROVIDER` lists it."
    ),
]

BecauseOption = Annotated[
    str, typer.Option("--because", metavar="TEXT", help="Reason, for `relay status` and `relay audit`.")
]


def pause(
    context: typer.Context,
    provider: ProviderArgument,
    group: GroupOption = None,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help="End the pause after this time, for example `2h`."),
    ] = None,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Stop sending to a provider, or to one group. Messages are still accepted and wait.

    Example: `relay pause hooks --group api.example.com --for 2h --because "they asked for it"`
    """
    seconds = lanes.pause_seconds(duration)
    settings = _load(context, config, provider)
    ends = "" if seconds is None else f" for {format_duration(seconds)}"
    if group is None:
        common.act(settings, lanes.pause, provider, seconds=seconds, because=because, who=operator())
        common.note(f"{provider} is paused{ends}; new messages wait")
    else:
        waiting = common.act(
            settings, lanes.pause_group, provider, group, seconds=seconds, because=because, who=operator()
        )
        now = f"{waiting:,} messages wait" if waiting else "it has no messages now, new ones wait"
        common.note(f"group {group} of {provider} is paused{ends}; {now}")


def resume(
    context: typer.Context,
    provider: ProviderArgument,
    group: GroupOption = None,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Resume a paused provider or group, enable a disabled group, or end a hold early.

    Example: `relay resume pusher --because "new key"`
    """
    settings = _load(context, config, provider)
    if group is None:
        common.act(settings, lanes.resume, provider, because=because, who=operator())
        common.note(f"{provider} is resumed")
    elif common.act(settings, lanes.resume_group, provider, group, because=because, who=operator()):
        common.note(f"group {group} of {provider} is resumed")
    else:
        common.note(f"group {group} of {provider} did not hold")


def probe(
    context: typer.Context,
    provider: ProviderArgument,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Send one message immediately, of a provider that holds (an open breaker, refused credentials).

    If the provider accepts it, the others follow; otherwise the lane holds again. `relay resume` sends all.

    Example: `relay probe pusher`
    """
    settings = _load(context, config, provider)
    state = common.act(settings, lanes.probe, provider, because=because, who=operator())
    common.note(f"{provider} is {state}; one message goes now, and its answer decides")


def cancel(
    context: typer.Context,
    provider: ProviderArgument,
    message_id: MessageArgument,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Cancel a message that is not in flight yet.

    Example: `relay cancel pusher order-17`
    """
    settings = _load(context, config, provider)
    result = common.act(settings, lanes.cancel, provider, message_id, because=because, who=operator())
    if result != "cancelled":
        common.note(f"not cancelled: {message_id} is {result} at {provider}")
        raise typer.Exit(1)
    common.note(f"cancelled {message_id}")


def send_next(
    context: typer.Context,
    provider: ProviderArgument,
    message_id: MessageArgument,
    because: BecauseOption = "",
    config: common.ConfigOption = None,
) -> None:
    """Move a waiting message to the head of its lane, or of its group if the lane has groups.

    Rate, pauses, holds and the turns of groups apply as before. A wait before its next attempt ends.

    Example: `relay send-next pusher order-17 --because "the customer is on the phone"`
    """
    settings = _load(context, config, provider)
    before = common.act(settings, lanes.send_next, provider, message_id, because=because, who=operator())
    common.note(lanes.sent_next(provider, message_id, before))


def _load(context: typer.Context, config: Path | None, provider: str) -> Settings:
    """Load the settings. Raises UsageError unless they name this provider."""
    settings = common.load_settings(context, config)
    require_provider(settings, provider)
    return settings
