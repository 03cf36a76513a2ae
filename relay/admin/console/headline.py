"""One sentence about the fleet, and the list of everything that needs an operator. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.admin.console.lane_view import tone_of, why_of
from relay.admin.console.tones import RANKS, Tone
from relay.operations.summary import Level, is_unserved, queue_level, summary
from relay.settings.durations import rough_duration
from relay.store.findings import Finding
from relay.store.findings import Level as FindingLevel
from relay.store.overview import LaneStatus, Overview
from relay.store.states import State
from relay.text import printable

_SENTENCES = {
    State.UNAUTHORISED: "{name} refuses our credentials",
    State.OPEN: "{name} fails, and its breaker is open",
    State.UNREGISTERED: "{name} has too many targets that are gone",
    State.FAULTY: "the adapter of {name} fails on every message",
    State.TRIAL: "{name} refused a message, and relay looks for the cause",
    State.THROTTLED: "{name} asked us to wait",
    State.PAUSED: "{name} is paused",
}


NAMED = 3
"""Queues of one trouble that are named."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that needs an operator, or may soon. `link` is a path of the console."""

    tone: Tone
    text: str
    detail: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """The sentence at the top."""

    tone: Tone
    text: str


def troubles(overview: Overview, servers: Sequence[Finding], findings: Sequence[str]) -> list[Trouble]:
    """Return all troubles, the most serious first."""
    found = [*_fleet(overview), *_lanes(overview), *_queues(overview), *_servers(servers)]
    found += [Trouble(Tone.WARN, printable(line)) for line in findings]
    return sorted(found, key=lambda trouble: RANKS[trouble.tone])


def headline(overview: Overview, found: Sequence[Trouble]) -> Headline:
    """Return the sentence of `relay status`."""
    tones = [trouble.tone for trouble in found if trouble.tone is not Tone.IDLE]
    return Headline(
        min(tones, key=RANKS.__getitem__, default=Tone.GOOD), _sentence_case(f"{summary(overview)}.")
    )


def _fleet(overview: Overview) -> Iterator[Trouble]:
    if not overview.alive:
        yield Trouble(Tone.BAD, "no worker is alive", "Start one with `relay run`.", "/workers")
    for error in overview.errors:
        yield Trouble(Tone.BAD, "Redis refuses a command", printable(error))


def _lanes(overview: Overview) -> Iterator[Trouble]:
    for lane in overview.lanes:
        tone, link = tone_of(lane), f"/lanes/{lane.provider}"
        name = printable(lane.provider)
        if lane.error:
            yield Trouble(Tone.BAD, f"some keys of {name} cannot be read", why_of(lane), link)
        elif not (lane.configured or lane.served):
            yield Trouble(
                Tone.BAD,
                f"{name} holds messages and is not in the file",
                "Add the provider to the file, or purge its messages.",
                link,
            )
        elif is_unserved(lane) and overview.alive:
            yield Trouble(
                Tone.BAD,
                f"no worker serves {name}",
                "Start one with the provider in its file, or reload the workers.",
                link,
            )
        elif tone in (Tone.BAD, Tone.WARN, Tone.HELD):
            yield Trouble(tone, _sentence(lane), why_of(lane), link)


def _sentence(lane: LaneStatus) -> str:
    try:
        sentence = _SENTENCES[State(lane.state)].format(name=printable(lane.provider))
    except (KeyError, ValueError):
        sentence = f"{printable(lane.provider)} is {printable(lane.state)}"
    if lane.hold < 1:
        return sentence
    left = rough_duration(lane.hold)
    return f"{sentence} for another {left}" if lane.pause else f"{sentence}; it tries again in {left}"


def _queues(overview: Overview) -> Iterator[Trouble]:
    unread = []
    for queue in overview.queues:
        if queue.error:
            name = printable(queue.name)
            yield Trouble(Tone.BAD, f"the queue {name} cannot be read", printable(queue.error), "/queues")
        elif queue_level(queue) is Level.TROUBLE:
            unread.append(queue)
    if unread and overview.alive:
        names = ", ".join(printable(queue.name) for queue in unread[:NAMED])
        others = f" and {len(unread) - NAMED:,} more" if len(unread) > NAMED else ""
        waiting = sum(queue.waiting for queue in unread)
        yield Trouble(
            Tone.BAD,
            f"no worker reads the queue{'s' * (len(unread) > 1)} {names}{others}",
            f"{waiting:,} elements wait: add it to the file of a worker, or delete the list.",
            "/queues",
        )


def _servers(servers: Sequence[Finding]) -> Iterator[Trouble]:
    for finding in servers:
        if finding.level in (FindingLevel.FAILED, FindingLevel.WARNING):
            tone = Tone.BAD if finding.level is FindingLevel.FAILED else Tone.IDLE
            yield Trouble(tone, f"Redis: {finding.subject}", printable(finding.text))


def _sentence_case(text: str) -> str:
    """Return a sentence with a capital at its beginning, unless it begins with a provider's name."""
    return text[0].upper() + text[1:] if text.startswith(("all ", "no ", "the ", "Redis ")) else text
