"""The filter of dead letters, as operators type it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UsageError
from relay.operations.dead_filter import OPTIONS, parse_filter
from relay.operations.dead_selection import DeadSelection
from relay.store.dead_filter import DeadFilter
from relay.text import alike
from testing.builders import a_message

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("status", "found"), [("413", (413, 413)), ("5xx", (500, 599)), ("4XX", (400, 499)), (None, None)]
)
def test_a_status_is_a_number_or_a_class(status: str | None, found: tuple[int, int] | None) -> None:
    assert parse_filter({"status": status}).statuses == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", NOW - 7200),
        ("1790000000", 1_790_000_000.0),
        ("2026-11-28T03:00:00Z", 1_795_834_800.0),
        ("2026-11-28T05:00:00+02:00", 1_795_834_800.0),
    ],
)
def test_a_time_is_rfc_3339_or_unix_seconds_or_a_duration_ago(text: str, seconds: float) -> None:
    assert parse_filter({"since": text}, NOW).since == seconds
    assert parse_filter({"until": text}, NOW).until == seconds


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"status": "51"}, "--status"),
        ({"status": "xx"}, "write 413, or 5xx"),
        ({"since": "yesterday"}, "--since"),
        ({"since": "1h", "until": "2h"}, "--until is before --since"),
        ({"reason": ""}, "--reason"),
        ({"text": "x" * 1001}, "--text"),
        ({"group": "\udcff"}, "--group"),
        ({"colour": "red"}, "unknown option"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, str], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        parse_filter(options, NOW)


@given(st.dictionaries(st.sampled_from(OPTIONS), st.one_of(st.none(), st.text(max_size=30))))
def test_any_text_is_a_filter_or_an_error_with_a_reason(options: dict[str, str | None]) -> None:
    with suppress(UsageError):
        where = parse_filter(options, NOW)
        assert where.packed()
        assert DeadSelection(None, where, 3).describe().endswith("limit 3")


@given(st.text(min_size=1, max_size=20))
def test_an_id_a_group_and_a_queue_match_only_themselves(name: str) -> None:
    message = a_message("order-17", group="acme")
    assert DeadFilter(id="order-17", group="acme", queue="notifications").matches(
        "1-0", "notifications", message
    )
    assert DeadFilter(id=name).matches("1-0", "", message) == (name in ("order-17", "1-0"))
    assert DeadFilter(group=name).matches("1-0", "", message) == (name == "acme")
    assert not DeadFilter(group=name).matches("1-0", "", None)


def test_a_text_is_found_as_json_may_write_it() -> None:
    packed = DeadFilter(text="Grüße/\u00e9").packed()
    assert json.dumps("grüße/é")[1:-1].encode() in packed
    assert "grüße/é".encode() in packed


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("gave up after 10 attempts: 503: overloaded", "gave up after # attempts: 503: overloaded"),
        ("413: 70000 bytes", "413: # bytes"),
        ("token a81bc81b-dead-4e5d-abff-90865d1e13b1 is gone", "token # is gone"),
    ],
)
def test_reasons_are_counted_by_status_and_words(reason: str, kind: str) -> None:
    assert alike(reason) == kind
