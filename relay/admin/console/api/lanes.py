"""Actions on lanes: pause, resume, probe and rate."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, field

from relay.admin.console.api.route import Arguments, Reply, Route
from relay.admin.console.call import Call
from relay.errors import UsageError
from relay.operations import lanes, rates
from relay.operations.document_types import ProviderDocument
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


class ProbeArguments(Arguments, frozen=True, kw_only=True):
    """The options of `relay probe`."""

    because: Annotated[Text, Meta(description="The reason, which the audit log shows.")] = ""


class RateArguments(Arguments, frozen=True, kw_only=True):
    """The arguments of `relay rate`: a rate, or `reset`."""

    rate: Annotated[str | None, Meta(description="New rate, such as `50/s`, or several: `50/s,1000/h`.")] = (
        None
    )
    reset: Annotated[bool, Meta(description="Return to the configured rate.")] = False
    duration: Annotated[str | None, Meta(description="End the override after this time.")] = field(
        default=None, name="for"
    )
    because: Annotated[Text, Meta(description="The reason, which the status and the audit log show.")] = ""


async def _pause(call: Call, arguments: PauseArguments) -> Reply:
    provider, because, who = call.part("provider"), arguments.because, call.visitor.name
    seconds = lanes.pause_seconds(arguments.duration or None, "for")
    if group := arguments.group:
        await call.act(lanes.pause_group, provider, group, seconds=seconds, because=because, who=who)
    else:
        await call.act(lanes.pause, provider, seconds=seconds, because=because, who=who)
    return await _lane(call, provider)


async def _resume(call: Call, arguments: ResumeArguments) -> Reply:
    provider, because, who = call.part("provider"), arguments.because, call.visitor.name
    if arguments.group:
        await call.act(lanes.resume_group, provider, arguments.group, because=because, who=who)
    else:
        await call.act(lanes.resume, provider, because=because, who=who)
    return await _lane(call, provider)


async def _probe(call: Call, arguments: ProbeArguments) -> Reply:
    provider = call.part("provider")
    await call.act(lanes.probe, provider, because=arguments.because, who=call.visitor.name)
    return await _lane(call, provider)


async def _rate(call: Call, arguments: RateArguments) -> Reply:
    provider, because, who = call.part("provider"), arguments.because, call.visitor.name
    if arguments.reset == (arguments.rate is not None):
        raise UsageError("write a rate such as 50/s, or reset to return to the configured one")
    seconds = lanes.pause_seconds(arguments.duration or None, "for")
    if arguments.rate is None:
        await call.act(rates.reset_rate, provider, because=because, who=who)
    else:
        new = rates.parse_rates(arguments.rate)
        await call.act(rates.set_rate, provider, new, seconds=seconds, because=because, who=who)
    return await _lane(call, provider)


async def _lane(call: Call, provider: str) -> Reply:
    """Return the lane after an action."""
    client = await call.services.client()
    return Reply(provider_document(await read_provider(client, call.settings, provider, call.services.own())))


ROUTES: Final = (
    Route(
        "POST",
        "/lanes/{provider}/pause",
        "Stop sending to a provider, or to one group.",
        "relay pause PROVIDER",
        _pause,
        PauseArguments,
        answer=ProviderDocument,
    ),
    Route(
        "POST",
        "/lanes/{provider}/resume",
        "Resume a provider or a group, enable a disabled group, or end a hold early.",
        "relay resume PROVIDER",
        _resume,
        ResumeArguments,
        answer=ProviderDocument,
    ),
    Route(
        "POST",
        "/lanes/{provider}/probe",
        "Send one message immediately, of a provider that holds; its answer decides.",
        "relay probe PROVIDER",
        _probe,
        ProbeArguments,
        answer=ProviderDocument,
    ),
    Route(
        "POST",
        "/lanes/{provider}/rate",
        "Override the configured rate of a provider, or return to it.",
        "relay rate PROVIDER",
        _rate,
        RateArguments,
        answer=ProviderDocument,
    ),
)
