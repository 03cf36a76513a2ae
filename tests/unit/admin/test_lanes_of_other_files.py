"""Lanes that the console's own file does not name."""

from __future__ import annotations

from relay.admin.console.lane_view import tone_of
from relay.admin.console.tones import Tone
from relay.admin.console.trouble_rows import trouble_rows
from relay.operations.troubles import reason_of, troubles
from relay.store.fleet import Member, WorkerInfo
from relay.store.overview import LaneStatus, Overview
from relay.store.states import State

WORKER = Member(WorkerInfo("w", "host", "", 1, "1", 0.0), 1.0, 0.0)


def lane(*, served: bool) -> LaneStatus:
    return LaneStatus("hook", State.RUNNING, "", 0, 3, 0, 0, 0, 0, 0, {}, configured=False, served=served)


def test_a_lane_that_other_workers_serve_is_no_trouble() -> None:
    seen = lane(served=True)
    assert (tone_of(seen), reason_of(seen)) == (Tone.GOOD, "")
    assert troubles(Overview(0.0, [], [seen], [WORKER])) == []


def test_a_lane_that_no_worker_serves_is_trouble() -> None:
    (found,) = trouble_rows(troubles(Overview(0.0, [], [lane(served=False)], [WORKER])), [])
    assert (found.tone, found.text) == (Tone.BAD, "hook holds messages and is not in the file")
