"""Fault injection: every kind of fault occurs."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession
from pydantic import ValidationError

from relay.sandbox.faults import NO_FAULT, REMEMBERED, Bucket, Ending, FaultInjector, RequestFaultInjector
from relay.sandbox.options import Faults, RequestFaults, SandboxOptions, parse_latency, parse_share
from relay.sandbox.server import Sandbox
from tests.integration.sandbox.conftest import until


async def test_a_share_of_the_requests_fails_and_a_seed_repeats_which(user: Any) -> None:
    runs = []
    for _ in range(2):
        assert await user.order(fail="40%", status=503, retry_after=7) == 200
        runs.append(await user.hooks(20))
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}


async def test_an_order_applies_the_given_number_of_times_and_an_empty_one_clears_it(user: Any) -> None:
    await user.order(times=2, status=503, retry_after=7)
    assert (await user.hook())[1]["Retry-After"] == "7"
    assert await user.hooks(2) == [503, 200]
    await user.order(status=410)
    assert await user.hooks(2) == [410, 410]
    await user.order()
    assert await user.hooks(1) == [200]
    assert user.sandbox.request_log.stats()["webhook"]["statuses"] == {"200": 2, "410": 2, "503": 2}


async def test_an_order_may_concern_one_provider(user: Any) -> None:
    await user.order(fail=1, provider="pusher")
    assert await user.hooks(1) == [200]
    await user.order(fail=1, provider="webhook")
    assert await user.hooks(1) == [500]


async def test_the_faults_in_force_are_shown_as_they_can_be_ordered_again(user: Any) -> None:
    orders = {"fail": 0.05, "latency": "10ms-1.5s", "rate_limit": "100/s", "burst": 3, "provider": "webhook"}
    await user.order(**orders)
    assert await user.get("/_sandbox/faults") == orders
    await user.order(**await user.get("/_sandbox/faults"))
    assert await user.get("/_sandbox/faults") == orders
    await user.order()
    assert await user.get("/_sandbox/faults") == {}


async def test_an_impossible_order_changes_nothing_and_returns_the_reason(user: Any) -> None:
    await user.order(fail=1)
    for body, why in (
        ('{"fial": 1}', "fial: "),
        ('{"fail": 2, "status": 99}', "status: "),
        ('{"provider": "nobody"}', "must be one of pusher, webhook"),
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
    ):
        status, _, text = await user.ask("POST", "/_sandbox/faults", data=body)
        assert (status, why in text) == (400, True), text
    assert await user.get("/_sandbox/faults") == {"fail": 1.0}


async def test_answers_can_be_late(user: Any) -> None:
    await user.order(latency="30ms-40ms")
    began = time.monotonic()
    assert await user.hooks(1) == [200]
    assert time.monotonic() - began >= 0.03


async def test_too_many_messages_are_throttled_with_retry_after(user: Any) -> None:
    await user.order(rate_limit="2/s", burst=1)
    assert (await user.hook())[0] == 200
    status, headers, _ = await user.hook()
    assert (status, headers["Retry-After"]) == (429, "1")


async def test_a_request_that_hangs_ends_with_its_client(user: Any) -> None:
    await user.order(hang=1)
    with pytest.raises(TimeoutError):
        await user.hook(seconds=2)
    stats = user.sandbox.request_log.stats()["webhook"]
    assert (stats["messages"], stats["accepted"], stats["unanswered"]) == (1, 0, 1)
    # The server's tasks are those of the connections: none of them is left behind.
    await until(lambda: not any("start" in repr(task.get_coro()) for task in asyncio.all_tasks()))


async def test_requests_that_hang_end_with_the_sandbox() -> None:
    sandbox = Sandbox(SandboxOptions(webhook_secret="", faults=Faults(hang=1)))
    await sandbox.start()
    async with ClientSession() as session:
        asking = asyncio.create_task(session.post(f"{sandbox.url}/webhook"))
        await until(lambda: bool(sandbox.request_log.entries))
        async with asyncio.timeout(120):
            await sandbox.stop()
        with pytest.raises(ClientError):
            await asking


async def test_a_client_that_disconnects_before_a_late_answer_counts_as_unanswered(user: Any) -> None:
    await user.order(latency="10s")
    with pytest.raises(TimeoutError):
        await user.hook(seconds=2)
    await until(lambda: bool(user.sandbox.request_log.entries))
    assert user.sandbox.request_log.stats()["webhook"]["unanswered"] == 1


async def test_a_connection_breaks_in_the_middle_of_an_answer(user: Any, lines: list[str]) -> None:
    await user.order(reset=1)
    with pytest.raises(ClientError):
        await user.hook()
    assert user.sandbox.request_log.accepted("webhook") == 0
    assert lines == ["--- webhook /webhook POST {}"]


async def test_the_url_of_a_webhook_chooses_the_faults_of_its_messages(user: Any) -> None:
    path = "/webhook/x?status=503&retry_after=2&times=2&delay=1ms&mine=1"
    status, headers, _ = await user.hook(path, "a")
    assert (status, headers["Retry-After"]) == (503, "2")
    assert [(await user.hook(path, name))[0] for name in "baabb"] == [503, 503, 200, 503, 200]
    assert (await user.hook("/webhook?status=204"))[0] == 204
    status, _, text = await user.hook("/webhook?status=fine")
    assert (status, "status: " in text) == (400, True)
    for outcome in ("hang", "reset"):
        with pytest.raises((TimeoutError, ClientError)):
            await user.hook(f"/webhook?{outcome}=1&times=1", outcome, seconds=2)
        assert (await user.hook(f"/webhook?{outcome}=1&times=1", outcome))[0] == 200


def test_a_bucket_limits_messages_and_returns_the_wait() -> None:
    now = 0.0
    bucket = Bucket(rate=100, burst=10, clock=lambda: now)
    assert bucket.take(10) == 0
    assert bucket.take(1) == pytest.approx(0.01)
    now = 0.05
    assert bucket.take(6) == pytest.approx(0.01)
    assert bucket.take(5) == 0
    now = 60.0
    assert bucket.take(100) == 0  # more than it ever holds: it owes 90
    now = 60.9
    assert bucket.take(1) == pytest.approx(0.01)
    now = 60.92
    assert bucket.take(1) == 0


def test_choices_of_one_fault_do_not_move_with_another() -> None:
    alone, with_hangs = FaultInjector(Faults(fail=0.3), 7), FaultInjector(Faults(fail=0.3, hang=0), 7)
    assert [alone.decide("webhook", 1) for _ in range(50)] == [
        with_hangs.decide("webhook", 1) for _ in range(50)
    ]
    assert FaultInjector(Faults()).decide("webhook", 1) is NO_FAULT


def test_failures_of_messages_are_counted_in_bounded_memory() -> None:
    maker, order = RequestFaultInjector(), RequestFaults(reset=True, times=1)
    for number in range(REMEMBERED + 1):
        assert maker.decide(order, str(number)).ending is Ending.RESET
    assert maker.decide(order, str(REMEMBERED)).ending is None
    assert maker.decide(order, "0").ending is Ending.RESET


def test_shares_and_latencies_have_one_meaning() -> None:
    assert (parse_share("5%"), parse_share(0.05), parse_share("1")) == (0.05, 0.05, 1.0)
    assert (parse_latency("50ms"), parse_latency("10ms-1s")) == ((0.05, 0.05), (0.01, 1.0))
    for wrong in ("101%", "-1", "many", "nan", "%", True):
        with pytest.raises(ValidationError, match="is not a share"):
            Faults(fail=wrong)
    for latency in ("9-1", "-1", "fast", "1-2-3", [1, 2]):
        with pytest.raises(ValidationError):
            Faults(latency=latency)


PAGES = Path(__file__).parents[3] / "docs/reference/providers"
ORDERS = [
    order
    for name in ("apns", "fcm", "webpush")
    for order in re.findall(r"^\| `(\{.*?\})` \|", (PAGES / f"{name}.md").read_text(), re.MULTILINE)
]


async def test_the_orders_on_the_pages_are_accepted(user: Any) -> None:
    assert len(ORDERS) == 13
    for order in ORDERS:
        assert (await user.ask("POST", "/_sandbox/faults", data=order))[0] == 200, order
