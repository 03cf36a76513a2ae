"""`relay status` on a terminal of 80 columns, when everything is on fire and when all is well."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from relay.cli.rows import short_count, short_duration, short_rate
from relay.cli.status_view import fleet_view, provider_view
from relay.operations.summary import in_trouble, summary
from relay.settings.values import parse_rate
from relay.store.fleet import Member, WorkerInfo
from relay.store.groups import Groups, GroupStatus
from relay.store.histogram import Histogram
from relay.store.lane_settings import LaneSettings
from relay.store.override import Override
from relay.store.overview import LaneStatus, Overview, QueueStatus
from relay.store.recent import Recent
from relay.store.states import GroupState, State
from relay.store.statistics import Counts
from testing.pages.blocks import blocks

HOSTILE = "\x1b[2J\u202e[red]日本\n"
WORKER = Member(WorkerInfo("w", "host-1", "", 812, "0.1.0", 1000.0, settings="s"), 1.0, 0.0)


def lane(name: str, state: str = State.RUNNING, why: str = "", **fields: Any) -> LaneStatus:
    known = {
        "hold": 0.0,
        "waiting": 0,
        "delayed": 0,
        "in_flight": 0,
        "dead": 0,
        "outbox": 0,
        "outbox_lost": 0,
    }
    settings = LaneSettings(type="test", rate="100/s, 600000/m", per_second=100)
    rest = {**known, "totals": {}, "settings": settings, **fields}
    return LaneStatus(provider=name, state=state, why=why, **rest)


def fleet(*lanes: LaneStatus, queues: Sequence[QueueStatus] = (), **fields: Any) -> Overview:
    return Overview(5000.0, queues, lanes, **{"workers": [WORKER], **fields})


BURNING = fleet(
    lane("pusher", waiting=34, oldest_seconds=2.0, recent=Recent(98.2, 0, 0, 0.98, 3)),
    lane(
        "webpush",
        State.UNAUTHORISED,
        f"401 {HOSTILE}" * 30,
        hold=24.0,
        waiting=12_004,
        delayed=55_555,
        in_flight=6400,
        dead=12_004,
        oldest_seconds=240.0,
        suspects=3,
        recent=Recent(0, 12.3, 0.5, 0.98, -3),
    ),
    lane(
        "notifications-of-the-shop-in-europe",
        State.THROTTLED,
        "429 slow down",
        hold=3500.0,
        waiting=1_203_455,
        dead=1,
        oldest_seconds=3 * 86400.0,
        recent=Recent(45, 0.03, 1.0, 0.98, 3),
        override=Override.of([parse_rate("50/s")], until=1.8e9, by="ann@ops", reason=HOSTILE),
    ),
    lane("fcm", State.OPEN, "20 failures in a row: connection refused", hold=24.0, waiting=50),
    queues=[
        QueueStatus("notifications", 12, 0, 3, oldest_seconds=99.0),
        QueueStatus(HOSTILE, 0, 0, 0, error=f"LLEN {HOSTILE}: WRONGTYPE"),
        QueueStatus("nobody", 7, 0, 0, served=False),
    ],
    errors=[f"HGETALL {HOSTILE}" * 20],
)


def printed(view: Any, width: int = 80) -> list[str]:
    """The lines on a terminal of this width."""
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, color_system=None)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


ON_THE_PAGE = fleet(
    lane("pusher", waiting=34, in_flight=12, oldest_seconds=2.0, dead=3, recent=Recent(98.2, 0, 0, 0.98, 3)),
    lane(
        "webpush",
        State.UNAUTHORISED,
        '401 {"error": "bad key"}',
        hold=24.0,
        waiting=12_004,
        dead=12_001,
        oldest_seconds=240.0,
        recent=Recent(0, 12.3, 0, 0.98, -3),
    ),
    lane(
        "fcm",
        State.OPEN,
        "20 failures in a row: connection refused",
        hold=24.0,
        waiting=50,
        oldest_seconds=66.0,
        recent=Recent(0, 0.13, 0.5, 0.98, -1),
        settings=LaneSettings(type="fcm", rate="50/s", per_second=50),
    ),
)


GROUPS_ON_THE_PAGE = [
    GroupStatus(
        "hooks.example.org",
        GroupState.OPEN,
        "10 failures in a row: connection refused",
        hold=24.0,
        waiting=8214,
        in_flight=0,
        oldest=4320.0,
        failures=31,
    ),
    GroupStatus("api.example.com", GroupState.RUNNING, "", 0.0, 12, 4, 1.0, 0),
    GroupStatus("push.example.net", GroupState.LIMITED, "its rate", 0.0, 3, 0, 2.0, 0),
]


def test_the_page_shows_what_a_terminal_of_80_columns_does() -> None:
    lanes, groups = (
        block.text
        for block in blocks("docs/how-to/watch-a-fleet.md")
        if block.language == "text" and "order-17" not in block.text
    )
    assert "\n".join(line.rstrip() for line in printed(fleet_view(ON_THE_PAGE, "s"))).startswith(lanes)
    hooks = fleet(lane("hooks", groups=Groups(3, GROUPS_ON_THE_PAGE)))
    assert groups in "\n".join(line.rstrip() for line in printed(provider_view(hooks))) + "\n"


@pytest.mark.parametrize("width", [40, 80, 81, 109, 110, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = printed(fleet_view(BURNING, "s"), max(width, 80))
    assert max(Text(line).cell_len for line in lines) <= max(width, 80)
    assert printed(fleet_view(BURNING, "s"), width)


def test_foreign_text_cannot_control_the_terminal() -> None:
    text = "\n".join(printed(fleet_view(BURNING, "s")))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "\\x1b[2J" in text
    assert "[red]" in text, "names are no markup"


def test_a_sentence_comes_first_and_then_the_lanes_in_trouble() -> None:
    lines = printed(fleet_view(BURNING, "s"))
    sentence = " ".join(lines[: lines.index("")])
    assert sentence.startswith(
        "Redis refuses to read keys of the fleet; webpush refuses our credentials; fcm fails;"
    )
    assert "no worker reads nobody" in sentence
    assert sentence.endswith("12,008 dead, 1,215,562 waiting, 55,555 delayed, oldest 3d")
    names = [
        line.split()[0] for line in lines[lines.index("Lanes") + 2 :] if line and not line.startswith(" ")
    ]
    assert [name[:6] for name in names[:4]] == ["webpus", "fcm", "notifi", "pusher"]


def test_a_row_shows_the_work_of_a_lane_and_its_reason_on_a_line_of_its_own() -> None:
    lines = printed(fleet_view(BURNING, "s"))
    row = next(index for index, line in enumerate(lines) if line.startswith("webpush "))
    assert lines[row].split() == [
        *("webpush", "unauthorised", "12.0k", "4m", "55.6k", "6,400", "12.0k", "never"),
        *("0", "of", "100/s", "12", "50%"),
    ]
    assert lines[row + 1].startswith("  webpush: unauthorised 24s: 401 \\x1b[2J")
    assert lines[row + 3].endswith("…"), "a long reason is cut"
    assert not lines[row + 4].startswith(" ")
    assert any(line.startswith("  notifications-of-the-shop-in-europe: throttled 58m20s:") for line in lines)


def test_a_rate_of_an_operator_is_shown_with_its_end_and_author() -> None:
    text = " ".join(printed(fleet_view(BURNING, "s")))
    assert "45 of 50/s" in text
    assert "50/s until 2027-01-15T08:00:00Z, by ann@ops" in text


def test_columns_without_figures_are_left_out_of_a_narrow_terminal() -> None:
    calm = fleet(lane("pusher", waiting=3, recent=Recent(delivered_per_second=4.0)))
    (header,) = (line for line in printed(fleet_view(calm, "s")) if line.startswith("lane "))
    assert header.split() == ["lane", "state", "wait", "age", "dead", "gone", "sent", "of", "rate"]
    (header,) = (line for line in printed(fleet_view(calm, "s"), 160) if line.startswith("lane "))
    assert "throttled" in header
    assert "delivered" in header


def test_a_fleet_that_is_well_is_said_to_be() -> None:
    assert summary(fleet(lane("a"), lane("b"))) == "all 2 lanes are well; nothing waits"
    assert summary(fleet(lane("a", dead=5, waiting=1, oldest_seconds=3.0))) == (
        "the only lane is well; 5 dead, 1 waiting, oldest 3s"
    )


def test_lanes_in_the_same_trouble_share_a_clause() -> None:
    lanes = [lane(name, State.UNAUTHORISED) for name in "abcd"]
    assert summary(fleet(*lanes[:2])) == "a and b refuse our credentials; nothing waits"
    assert summary(fleet(*lanes)) == "a, b and 2 more refuse our credentials; nothing waits"
    assert summary(fleet(lane("a", "of a newer version"))) == "a is of a newer version; nothing waits"


@pytest.mark.parametrize(
    ("overview", "trouble"),
    [
        (fleet(lane("a")), False),
        (fleet(lane("a", State.PAUSED)), False),
        (fleet(lane("a", State.THROTTLED)), False),
        (fleet(lane("a", State.OPEN)), True),
        (fleet(lane("a", error="WRONGTYPE")), True),
        (fleet(lane("a", served=False)), False),
        (fleet(lane("a", served=False, delayed=1)), True),
        (fleet(lane("a"), queues=[QueueStatus("q", 0, 0, 9)]), False),
        (fleet(lane("a"), queues=[QueueStatus("q", 1, 0, 0, served=False)]), True),
        (fleet(lane("a"), workers=[]), True),
    ],
)
def test_a_trouble_is_a_state_that_needs_an_operator(overview: Overview, trouble: bool) -> None:
    assert in_trouble(overview) is trouble


def test_the_view_of_a_provider_has_its_groups_errors_and_latencies() -> None:
    bad = GroupStatus(HOSTILE, GroupState.OPEN, f"refused {HOSTILE}", 24.0, 8214, 1, 4320.0, 31)
    hour = Counts(reasons={"refused": 1200, HOSTILE: 3}, request=Histogram.of([0.01] * 100))
    lines = printed(provider_view(fleet(lane("hook", groups=Groups(1, [bad])), hour=hour)))
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "open 24s: refused \\x1b[2J" in text
    assert "Errors of the last hour (2 of 2 reasons)" in lines
    assert "1,200  refused" in lines
    (latency,) = (line for line in lines if line.startswith("request: p50 "))
    assert "p99" in latency


def test_figures_stay_short() -> None:
    numbers = {0: "0", 9999: "9,999", 12_004: "12.0k", 99_960: "100k", 1_203_455: "1.2M", 10**12: "1000G"}
    assert {number: short_count(number) for number in numbers} == numbers
    ages = {59.4: "59s", 119: "119s", 120: "2m", 7200: "2h0m", 40_000: "11h", 3 * 86400: "3d"}
    assert {age: short_duration(age) for age in ages} == ages
    rates = {0.02: "0.02", 4.52: "4.5", 98.2: "98", 12_000: "12.0k"}
    assert {rate: short_rate(rate) for rate in rates} == rates


def test_a_summary_names_lanes_whose_groups_fail() -> None:
    def groups(*states: GroupState) -> Groups:
        each = [GroupStatus(str(place), state, "", 0.0, 1, 0, None, 0) for place, state in enumerate(states)]
        return Groups(len(each), each)

    some = lane("hooks", groups=groups(GroupState.OPEN, GroupState.RUNNING, GroupState.DISABLED))
    assert summary(fleet(some)).startswith("2 groups of hooks fail; ")
    assert not in_trouble(fleet(some))
    one = lane("hooks", groups=groups(GroupState.OPEN))
    assert summary(fleet(one)).startswith("1 group of hooks fails; ")
    assert summary(fleet(lane("hooks", groups=groups(GroupState.FULL)))).startswith("the only lane is well; ")
