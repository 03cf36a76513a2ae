"""The differences between a running fleet and a file, as `relay check --against-live` shows them."""

from __future__ import annotations

from typing import Any

from relay.operations.changes import changes
from relay.settings.digest import digest
from relay.settings.models import QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store.fleet import Member, WorkerInfo
from relay.store.lane_settings import Published
from relay.store.override import Override
from relay.store.overview import LaneStatus, Overview, QueueStatus
from testing.builders import options

NUMBERS: dict[str, Any] = dict.fromkeys(
    ("waiting", "delayed", "in_flight", "dead", "outbox", "outbox_lost"), 0
)


def configured(*queues: str, **providers: ProviderOptions) -> Settings:
    return Settings(
        queues=[QueueSettings(name=name) for name in queues or ("q",)],
        providers=providers or {"hook": options()},
    )


def lane(provider: str = "hook", *, known: bool = True, **fields: Any) -> LaneStatus:
    return LaneStatus(
        provider, "running", "", 0.0, **{**NUMBERS, "totals": {}, "configured": known, **fields}
    )


def compare(
    live: Settings, new: Settings, *rows: LaneStatus | QueueStatus, workers: int = 1
) -> list[tuple[str, str, str]]:
    info = WorkerInfo("w1", "host", "", 7, "1.0", 0.0, settings=digest(live))
    overview = Overview(
        0.0,
        [row for row in rows if isinstance(row, QueueStatus)],
        [row for row in rows if isinstance(row, LaneStatus)],
        [Member(info, 1.0, 0.0)] * workers,
    )
    found = changes(overview, Published.of(live), new)
    return [(finding.level.value, finding.subject, finding.text) for finding in found]


def test_the_same_file_changes_nothing() -> None:
    ((level, subject, text),) = compare(configured(), configured(), lane())
    assert (level, subject) == ("ok", "fleet")
    assert text == "a reload changes no queue and no provider"


def test_a_difference_that_workers_do_not_publish_is_not_called_none() -> None:
    class Secretive(ProviderOptions):
        url: str = ""

    old, new = (configured(hook=Secretive(type="test", url=url)) for url in ("a", "b"))
    ((_, _, text),) = compare(old, new, lane())
    assert "only options that workers do not publish differ" in text


def test_a_lane_that_vanishes_with_messages_in_it_is_a_warning() -> None:
    old = configured(hook=options(), gone=options(), empty=options())
    gone = lane("gone", known=False, waiting=1200, dead=3)
    found = compare(old, configured(), lane(), gone, lane("empty", known=False))
    assert found == [
        (
            "warning",
            "gone",
            "the lane leaves the fleet with messages in it, and nobody sends them: 1,200 waiting, 3 dead "
            "letters; keep the provider until the lane is empty",
        ),
        ("ok", "empty", "the lane leaves the fleet; it is empty"),
    ]


def test_a_rate_that_changes_starts_again() -> None:
    old, new = configured(hook=options("100/s")), configured(hook=options("50/s"))
    override = Override.of(options("10/s").rate)
    found = compare(old, new, lane(override=override))
    assert found == [
        ("ok", "hook", "rate: 100/s → 50/s; its token bucket starts again, full"),
        ("warning", "hook", "an operator's rate stays in force: 10/s"),
    ]
    assert compare(new, configured(), lane()) == [("ok", "hook", "rate: 50/s → unlimited")]


def test_queues_that_nobody_reads_any_more_are_warnings() -> None:
    rows = (
        QueueStatus("full", 5, 1, 0, configured=False),
        QueueStatus("served", 0, 0, 0, configured=False),
        QueueStatus("q", 5, 0, 0),
    )
    found = compare(configured("q", "full", "served"), configured(), lane(), *rows)
    assert [(level, subject) for level, subject, _ in found] == [
        ("warning", "queue full"),
        ("warning", "queue served"),
    ]
    assert "6 elements are in it" in found[0][2]


def test_other_options_show_their_old_and_new_values() -> None:
    old = configured("q", hook=options(concurrency=8, max_backlog=100))
    new = configured("q", "r", hook=options(concurrency=4, ttl=60.0), extra=options("1/s"))
    found = compare(old, new, lane(), lane("extra"))
    assert [(subject, text) for _, subject, text in found] == [
        ("hook", "concurrency: 8 → 4"),
        ("hook", "max_backlog: 100 → default"),
        ("hook", "ttl: default → 1m"),
        ("extra", "new provider, 1/s"),
        ("queue r", "new queue"),
    ]


def test_a_fleet_without_workers_is_compared_with_its_last_settings() -> None:
    old, new = configured(hook=options("100/s")), configured(hook=options("50/s"))
    found = compare(old, new, lane(), workers=0)
    assert found[0][2].startswith("rate: 100/s → 50/s")
    assert found[-1][:2] == ("unknown", "fleet")
