"""`relay apns channels`: the broadcast channels of an app at Apple."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Protocol, TypeVar, runtime_checkable

import typer

from relay.cli import common
from relay.errors import UsageError
from relay.operations.providers import require_provider
from relay.text import printable

app = typer.Typer(
    help="Broadcast channels of APNs: create, list and delete them.",
    epilog="Example: `relay apns channels create apns --storage latest`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    callback=common.remember_config,
)
channels = typer.Typer(
    help="Broadcast channels, which carry one push to the Live Activities of many devices.",
    no_args_is_help=True,
)
app.add_typer(channels, name="channels")

NameArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="A provider of `type: apns`.")]
ChannelArgument = Annotated[str, typer.Argument(metavar="CHANNEL", help="The id of a channel.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")]

ResultT = TypeVar("ResultT")


class Storage(StrEnum):
    """The storage policy of a channel for devices that are offline."""

    NONE = "none"
    LATEST = "latest"


class Channels(Protocol):
    """The channels of an app. All methods raise UsageError or TransportError."""

    async def create(self, storage: int, /) -> str: ...
    async def list(self) -> list[str]: ...
    async def storage(self, channel: str, /) -> int: ...
    async def delete(self, channel: str, /) -> None: ...


@runtime_checkable
class HasChannels(Protocol):
    """An adapter with broadcast channels."""

    def channels(self) -> Channels: ...


@channels.command("create")
def create(
    context: typer.Context,
    name: NameArgument,
    config: common.ConfigOption = None,
    storage: Annotated[
        Storage,
        typer.Option(
            help="Pushes that the channel stores for devices that are offline: none (allows more pushes), or "
            "the latest one for 8 hours. It cannot be changed later."
        ),
    ] = Storage.NONE,
    as_json: common.JsonOption = False,
) -> None:
    """Create a channel and print its id.

    Example: `relay apns channels create apns --storage latest`
    """
    policy = list(Storage).index(storage)
    channel = _call(context, config, name, lambda found: found.create(policy))
    typer.echo(
        common.as_json({"channel_id": channel, "storage": storage.value}) if as_json else printable(channel)
    )


@channels.command("list")
def list_channels(
    context: typer.Context,
    name: NameArgument,
    config: common.ConfigOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """List the ids of all channels of the app."""
    found = _call(context, config, name, lambda found: found.list())
    if as_json:
        typer.echo(common.as_json(found))
        return
    for channel in found:
        typer.echo(printable(channel))


@channels.command("show")
def show(
    context: typer.Context,
    name: NameArgument,
    channel: ChannelArgument,
    config: common.ConfigOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Show the storage policy of a channel for devices that are offline."""
    policy = _call(context, config, name, lambda found: found.storage(channel))
    stored = list(Storage)[policy].value
    typer.echo(common.as_json({"channel_id": channel, "storage": stored}) if as_json else stored)


@channels.command("delete")
def delete(
    context: typer.Context,
    name: NameArgument,
    channel: ChannelArgument,
    config: common.ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Delete a channel. Its id is never issued again."""
    if not yes and sys.stderr.isatty():
        typer.confirm(f"Delete channel {channel}?", abort=True, err=True)
    _call(context, config, name, lambda found: found.delete(channel))


def _call(
    context: typer.Context,
    config: common.ConfigOption,
    name: str,
    use: Callable[[Channels], Awaitable[ResultT]],
) -> ResultT:
    from relay.engine.lane_service import transport_of
    from relay.provider import discover

    settings = common.load_settings(context, config)
    require_provider(settings, name)
    options = settings.providers[name]
    adapter = discover()[options.type](name, options)
    if not isinstance(adapter, HasChannels):
        raise UsageError(f"providers.{name}: `type: {options.type}` has no broadcast channels; `apns` has")

    async def reach() -> ResultT:
        transport = transport_of(adapter)
        try:
            await adapter.start(transport)
            return await use(adapter.channels())
        finally:
            await transport.close()

    return common.run(reach(), common.fastest_loop())
