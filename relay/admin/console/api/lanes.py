"""Actions on lanes: pause and resume."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, field

from relay.admin.console.api.route import Arguments, Reply, Route
from relay.admin.console.call import Call
from relay.operations import lanes
from relay.operations.documents import provider_document
from relay.store.overview import read_provider

Text = Annotated[str, Meta(max_length=1000)]


class PauseArguments(Arguments, frozen=True, kw_only=True):
    """The options of `relay pause`."""

    duration: Annotated[str | None, Meta(description="End the pause after this time, for example `2h`.")] = (
        field(default=None, name="for")
    )
    because: Annotated[Text, Meta(description="The reason, which the status and the audit log show.")] = ""
    group: Annotated[str | None, Meta(description="Only this group of the lane.")] = None


class ResumeArguments(Arguments, frozen=True, kw_only=True):
    """The options of `relay resume`."""

    because: Annotated[Text, Meta(description="The reason, which the audit log shows.")] = ""
    group: Annotated[str | None, Meta(description="Only this group of the lane.")] = None


async def _pause(call: Call, arguments: PauseArguments) -> Reply:
    provider, who = call.part("provider"), call.visitor.name
    seconds = lanes.pause_seconds(arguments.duration or None, "for")
    client = await call.services.client()
    if arguments.group:
        await lanes.pause_group(
            client,
            call.settings,
            provider,
            arguments.group,
            seconds=seconds,
            because=arguments.because,
            who=who,
        )
    else:
        await lanes.pause(
            client, call.settings, provider, seconds=seconds, because=arguments.because, who=who
        )
    return await _lane(call, provider)


async def _resume(call: Call, arguments: ResumeArguments) -> Reply:
    provider, because, who = call.part("provider"), arguments.because, call.visitor.name
    client = await call.services.client()
    if arguments.group:
        group = arguments.group
        await lanes.resume_group(client, call.settings, provider, group, because=because, who=who)
    else:
        await lanes.resume(client, call.settings, provider, because=because, who=who)
    return await _lane(call, provider)


async def _lane(call: Call, provider: str) -> Reply:
    """Return the lane after an action, which all pages show with their next sample."""
    call.services.sampler.invalidate()
    return Reply(
        provider_document(await read_provider(await call.services.client(), call.settings, provider))
    )


ROUTES: Final = (
    Route(
        "POST",
        "/lanes/{provider}/pause",
        "Stop sending to a provider, or to one group.",
        "relay pause PROVIDER",
        _pause,
        PauseArguments,
    ),
    Route(
        "POST",
        "/lanes/{provider}/resume",
        "Resume a provider or a group, enable a disabled group, or end a hold early.",
        "relay resume PROVIDER",
        _resume,
        ResumeArguments,
    ),
)
