"""The table of HTTP statuses, the exceptions of each adapter, and the tables of their pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from providers._shared.apprise_child import Answer
from providers.apprise import outcome as apprise_outcome
from relay.outcome import Delivered, Isolate, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Response
from relay.provider.statuses import ADDRESS, CREDENTIALS, OURS, PROXY, outcome
from tests.unit.providers import test_http, test_pusher, test_webhook, test_webpush

NOW = 1_614_265_330.0
PAGES = Path(__file__).parents[3] / "docs/reference/providers"

TABLE: dict[type[Outcome], list[int]] = {
    Delivered: [200, 201, 202, 204, 299],
    Retry: [100, 101, 199, 408, 409, 423, 425, 500, 501, 502, 503, 504, 599],
    Throttled: [429],
    Rejected: [300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 407, 410, 413, 415, 422, 451, 499],
}
MEANINGS = [(status, kind) for kind, statuses in TABLE.items() for status in statuses]


@pytest.mark.parametrize(("status", "kind"), MEANINGS)
def test_a_status_has_one_meaning_for_all_adapters(status: int, kind: type[Outcome]) -> None:
    found = outcome(Response(status, {}, b"why"), "reason", NOW)
    assert type(found) is kind
    if not isinstance(found, Delivered):
        assert getattr(found, "reason", "").startswith("reason")
        assert (getattr(found, "status", 0), getattr(found, "body", b"")) == (status, b"why")


@pytest.mark.parametrize("status", sorted(OURS))
def test_a_refusal_that_may_be_our_fault_is_no_rejection(status: int) -> None:
    found = outcome(Response(status), "reason", NOW, ours=OURS, target="t")
    assert found == Unauthorised("reason", status, b"", "t")
    for others in (CREDENTIALS, ADDRESS, PROXY):
        if status not in others:
            assert outcome(Response(status), "reason", NOW, ours=others) == Rejected("reason", status)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("30", 30.0), ("Thu, 25 Feb 2021 15:03:10 GMT", 60.0), ("99999", 3600.0), ("soon", None)],
)
def test_a_retry_waits_for_the_time_in_retry_after(status: int, value: str, seconds: float | None) -> None:
    found = outcome(Response(status, {"retry-after": value}), "reason", NOW)
    assert isinstance(found, Throttled if status in {429, 503} else Retry)
    assert found.after == seconds


def test_the_reason_for_a_redirect_names_its_location() -> None:
    found = outcome(Response(307, {"location": "https://x.example/"}), "status 307", NOW)
    assert found == Rejected(
        "status 307 (redirects are not followed; it points to 'https://x.example/')", 307
    )
    assert outcome(Response(301), "status 301", NOW) == Rejected(
        "status 301 (redirects are not followed)", 301
    )


# The adapters: each with the statuses whose meaning is not that of the table

Judge = Callable[[Response], Outcome]
REDIRECTS = [300, 301, 302, 303, 307, 308]


def by(adapter: Any, message: Any) -> Judge:
    def judge(response: Response) -> Outcome:
        (found,) = adapter.outcomes([message], response)
        assert isinstance(found, Outcome)
        return found

    return judge


def by_apprise(response: Response) -> Outcome:
    if response.status < 300:
        return apprise_outcome(Answer(1, delivered=True))
    return apprise_outcome(Answer(1, lines=[f"Failed to send, error={response.status}."]))


ADAPTERS: dict[str, tuple[Judge, dict[type[Outcome], list[int]]]] = {
    "webhook": (by(test_webhook.a_webhook(), test_webhook.a_message({"body": {}})), {Unauthorised: [*OURS]}),
    "webhook with URLs of messages": (
        by(test_webhook.a_webhook(url=None), test_webhook.a_message({"url": "https://a.example/"})),
        {Unregistered: [410]},
    ),
    "http": (by(test_http.an_http(), test_http.a_message({})), {Unauthorised: [*OURS]}),
    "http with URLs of messages": (
        by(test_http.an_http(url=f"{test_http.URL}/${{payload.id}}"), test_http.a_message({"id": 1})),
        {Unauthorised: [407]},
    ),
    "pusher": (by(test_pusher.a_pusher(), test_pusher.an_event()), {Unauthorised: [*OURS, *REDIRECTS]}),
    "webpush": (
        by(test_webpush.a_webpush(), test_webpush.a_message()),
        {Unauthorised: [401, 403], Unregistered: [404, 410], Throttled: [406, 429]},
    ),
    "apprise": (by_apprise, {Unauthorised: [*OURS], Delivered: [], Retry: [100, 101, 199]}),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_departs_from_the_table_in_its_exceptions_only(name: str) -> None:
    judge, exceptions = ADAPTERS[name]
    expected = dict(MEANINGS) | {status: kind for kind, listed in exceptions.items() for status in listed}
    if name == "apprise":  # it knows no answer but a failure's, from 200 on
        expected = {status: kind for status, kind in expected.items() if status >= 200}
    found = {status: type(judge(Response(status))) for status in expected}
    assert found == expected


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "apprise"])
@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_a_success_counts_even_if_its_body_breaks_off(name: str, status: int) -> None:
    judge, _ = ADAPTERS[name]
    headers = {"x-long": "x" * 10_000, "content-length": "5", "transfer-encoding": "chunked"}
    for body, missing in ((b"", "the connection was closed"), (b"\x1f\x8b", "the gzip body is damaged")):
        assert isinstance(judge(Response(status, headers, body, missing)), Delivered)


# The pages

OUTCOMES: dict[str, type[Outcome]] = {
    "delivered": Delivered,
    "rejected": Rejected,
    "retry": Retry,
    "throttled": Throttled,
    "unauthorised": Unauthorised,
    "unregistered": Unregistered,
}
ROW = re.compile(r"^\| ([0-9]{3}(?:, [0-9]{3})*)( with Retry-After)? \|(.*)\|$", re.MULTILINE)


def rows(page: str, column: int) -> list[tuple[int, dict[str, str], bytes, str]]:
    """Status, headers, body and the outcome of a page's table, for each status of each row."""
    found = []
    for listed, after, rest in ROW.findall((PAGES / f"{page}.md").read_text()):
        cells = [cell.strip() for cell in rest.split("|")]
        text = cells[0].encode() if page in {"pusher", "webpush"} else b""
        headers = {"retry-after": "7"} if after else {}
        found += [(int(status), headers, text, cells[column]) for status in listed.split(", ")]
    return found


PAGE_TABLES = [
    ("webhook", "webhook", 0),
    ("webhook", "webhook with URLs of messages", 1),
    ("http", "http", 0),
    ("pusher", "pusher", 1),
    ("webpush", "webpush", 1),
    ("apprise", "apprise", 0),
]


@pytest.mark.parametrize(("page", "name", "column"), PAGE_TABLES)
def test_an_answer_has_the_outcome_that_the_page_documents(page: str, name: str, column: int) -> None:
    judge, exceptions = ADAPTERS[name]
    said = rows(page, column)
    for status, headers, text, cell in said:
        word = re.split(r"[^a-z]", cell)[0]
        assert type(judge(Response(status, headers, text))) is OUTCOMES[word], (status, cell)
    listed = {status for status, _, _, _ in said}
    assert listed >= {
        status for kinds in exceptions.values() for status in kinds if status >= 200 and status != 300
    }
    assert listed >= {400, 401, 403, 404, 408, 409, 410, 413, 423, 425, 429, 500, 503}


def test_a_batch_is_split_only_if_one_of_its_messages_may_be_at_fault() -> None:
    pusher, event = test_pusher.a_pusher(), test_pusher.an_event()
    for status, headers, text, cell in rows("pusher", 2):
        kinds = {type(found) for found in pusher.outcomes([event] * 2, Response(status, headers, text))}
        assert (kinds == {Isolate}) is cell.startswith("sent alone"), status
