"""The workers: their state, load and settings."""

from __future__ import annotations

from dataclasses import dataclass

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.admin.console.tones import Tone
from relay.store.fleet import Member
from relay.store.fleet_findings import has_other_settings, worker_findings
from relay.store.overview import Overview
from relay.store.vitals import Duty


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One row."""

    member: Member
    state: str
    tone: Tone
    differs: bool
    """Whether its settings differ from those of the console's file."""

    @property
    def is_alive(self) -> bool:
        return self.state in (*_DUTIES, "alive")

    @property
    def is_held(self) -> bool:
        """Whether an operator has drained it."""
        return self.state in _DUTIES


_DUTIES = {Duty.DRAINING.value: Tone.HELD, Duty.DRAINED.value: Tone.HELD}


def _view(member: Member, overview: Overview, ours: str) -> WorkerView:
    if member in overview.lost:
        state, tone = "died", Tone.BAD
    elif not member.is_alive:
        state, tone = "silent", Tone.BAD
    elif member.duty.value in _DUTIES:
        state, tone = member.duty.value, _DUTIES[member.duty.value]
    else:
        state, tone = "alive", Tone.GOOD
    return WorkerView(member, state, tone, has_other_settings(member.info, ours))


async def _values(call: Call, sample: Sample) -> Values:
    overview = sample.overview
    ours = call.services.digest()
    views = [_view(member, overview, ours) for member in (*overview.workers, *overview.lost)]
    alive = [view for view in views if view.is_alive]
    vitals = [view.member.info.vitals for view in alive if view.member.info.vitals]
    return {
        "views": sorted(views, key=lambda view: (view.is_alive, view.member.info.host, view.member.info.pid)),
        "alive": len(alive),
        "cpu": sum(each.cpu for each in vitals),
        "memory": sum(each.memory for each in vitals),
        "in_flight": sum(each.in_flight for each in vitals),
        "is_known": bool(vitals),
        "settings": len({view.member.info.settings for view in alive}),
        "findings": worker_findings(overview, ours),
        "at": overview.at,
    }


SCREEN = Screen("workers", "/workers", "workers.html", _values, "Workers")
