"""The stand-ins judge as the real ones do: checked with the official client libraries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pusher
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from pusher.errors import PusherBadAuth, PusherBadRequest
from standardwebhooks import Webhook

from relay.sandbox.journal import LATEST, Journal
from relay.sandbox.options import Faults, SandboxOptions, parse_latency, parse_share
from relay.sandbox.pusher import Refused, check_signature, events_of
from relay.sandbox.server import Sandbox
from relay.sandbox.webhook import verify


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(seed=1)) as running:
        yield running


def client(sandbox: Sandbox, **fields: Any) -> pusher.Pusher:
    options = {"app_id": "1", "key": "sandbox-key", "secret": "sandbox-secret", **fields}
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    return pusher.Pusher(host=host, port=int(port), ssl=False, **options)


async def test_the_official_client_is_accepted(sandbox: Sandbox) -> None:
    await asyncio.to_thread(client(sandbox).trigger, ["a", "b"], "new", {"text": "☃"})
    batch = [{"channel": "a", "name": "n", "data": str(number)} for number in range(10)]
    await asyncio.to_thread(client(sandbox).trigger_batch, batch)
    assert sandbox.journal.accepted("pusher") == 12
    assert json.loads(sandbox.journal.entries[0].body) == {"text": "☃"}


async def test_the_official_client_is_refused_for_what_is_wrong(sandbox: Sandbox) -> None:
    for fields in ({"secret": "wrong"}, {"key": "wrong"}):
        with pytest.raises(PusherBadAuth):
            await asyncio.to_thread(client(sandbox, **fields).trigger, "a", "n", "d")
    eleven = [{"channel": "a", "name": "n", "data": "d"}] * 11
    with pytest.raises(PusherBadRequest):
        await asyncio.to_thread(client(sandbox).trigger_batch, eleven)
    assert sandbox.journal.accepted("pusher") == 0


def test_a_request_from_another_time_is_refused() -> None:
    query = {"auth_key": "k", "auth_timestamp": "1000", "auth_version": "1.0"}
    with pytest.raises(Refused, match="Timestamp expired"):
        check_signature("POST", "/apps/1/events", query, b"", "k", "s", now=1601)


def an_event(**fields: Any) -> bytes:
    return json.dumps({"name": "n", "data": "d", "channel": "c", **fields}).encode()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("events", b"{", 400),
        ("events", b"[]", 400),
        ("events", an_event(name=None), 400),
        ("events", an_event(name="x" * 201), 400),
        ("events", an_event(data={"not": "a string"}), 400),
        ("events", an_event(data="x" * 10241), 413),
        ("events", an_event(channel="no spaces"), 400),
        ("events", an_event(socket_id="x"), 400),
        ("events", json.dumps({"name": "n", "data": "d", "channels": ["c"] * 101}).encode(), 400),
        (
            "events",
            json.dumps({"name": "n", "data": "d", "channels": ["c", "private-encrypted-c"]}).encode(),
            400,
        ),
        ("events", json.dumps({"name": "n", "data": "d"}).encode(), 400),
        ("batch_events", b"{}", 400),
        (
            "batch_events",
            json.dumps({"batch": [{"name": "n", "data": "d", "channels": ["c"]}]}).encode(),
            400,
        ),
    ],
)
def test_limits_are_those_of_the_documentation(path: str, body: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        events_of(f"/apps/1/{path}", "application/json", body)
    assert caught.value.status == status


def signed(body: str, secret: str, moment: datetime | None = None) -> dict[str, str]:
    moment = moment or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", moment, body)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }


def test_the_official_signer_is_accepted_and_every_change_is_not() -> None:
    secret, body = SandboxOptions().webhook_secret, '{"a": 1}'
    headers = signed(body, secret)
    assert verify(headers, body.encode(), secret) is None
    rotation = {**headers, "webhook-signature": "v1,AAAA v2,x " + headers["webhook-signature"]}
    assert verify(rotation, body.encode(), secret) is None
    assert verify(headers, b'{"a":1}', secret) == "no v1 signature of webhook-signature matches the body"
    assert "missing" in str(verify({}, body.encode(), secret))
    assert "off by" in str(verify(headers, body.encode(), secret, now=time.time() + 400))
    assert "Unix seconds" in str(verify({**headers, "webhook-timestamp": "soon"}, body.encode(), secret))


async def post(sandbox: Sandbox, path: str = "/webhook", timeout: float = 5) -> tuple[int, dict[str, str]]:
    headers = signed("{}", sandbox.options.webhook_secret)
    async with (
        ClientSession(timeout=ClientTimeout(total=timeout)) as session,
        session.post(sandbox.url + path, data=b"{}", headers=headers) as answer,
    ):
        await answer.read()
        return answer.status, dict(answer.headers)


async def order(sandbox: Sandbox, **faults: Any) -> int:
    async with (
        ClientSession() as session,
        session.post(f"{sandbox.url}/_sandbox/faults", json=faults) as answer,
    ):
        return answer.status


async def test_faults_can_be_ordered_while_it_runs(sandbox: Sandbox) -> None:
    assert await order(sandbox, times=2, status=503, retry_after=7) == 200
    assert [(await post(sandbox))[0] for _ in range(3)] == [503, 503, 200]
    assert await order(sandbox, fail="100%", provider="pusher") == 200
    assert (await post(sandbox))[0] == 200
    assert await order(sandbox, fail="100%") == 200
    assert (await post(sandbox))[0] == 500
    assert await order(sandbox, fial=1) == 400
    assert await order(sandbox) == 200
    assert (await post(sandbox))[0] == 200


async def test_too_many_messages_are_throttled_with_retry_after(sandbox: Sandbox) -> None:
    await order(sandbox, rate_limit="20/s")
    answers = [await post(sandbox) for _ in range(14)]
    assert [status for status, _ in answers].count(429) >= 1
    assert all("Retry-After" in headers for status, headers in answers if status == 429)


async def test_hanging_and_broken_connections(sandbox: Sandbox) -> None:
    await order(sandbox, hang=1)
    with pytest.raises(TimeoutError):
        await post(sandbox, timeout=0.05)
    await order(sandbox, reset=1)
    with pytest.raises(ClientError):
        await post(sandbox)


async def test_a_webhook_s_own_url_orders_its_outcome(sandbox: Sandbox) -> None:
    path = "/webhook/x?status=503&retry_after=2&times=2&delay=1ms"
    answers = [await post(sandbox, path) for _ in range(3)]
    assert [status for status, _ in answers] == [503, 503, 200]
    assert answers[0][1]["Retry-After"] == "2"
    assert (await post(sandbox, "/webhook?status=fine"))[0] == 400


def test_the_journal_is_bounded_and_counts_duplicates() -> None:
    journal = Journal()
    for number in range(LATEST + 50):
        journal.note("webhook", 200, [("/", "POST", f"id-{number}", "x" * 9000)])
    journal.note("webhook", 200, [("/", "POST", f"id-{LATEST}", "x")])
    journal.note("webhook", 500, [("/", "POST", "id", "x")])
    stats = journal.stats()["webhook"]
    assert (stats["messages"], stats["accepted"], stats["refused"]) == (LATEST + 52, LATEST + 51, 1)
    assert (stats["duplicates"], len(journal.entries)) == (1, LATEST)
    assert len(journal.entries[0].body) == 2000


def test_shares_and_latencies_have_one_meaning() -> None:
    assert (parse_share("5%"), parse_share(0.05), parse_share("1")) == (0.05, 0.05, 1.0)
    assert (parse_latency("50ms"), parse_latency("10ms-1s")) == ((0.05, 0.05), (0.01, 1.0))
    for wrong in ("101%", "-1", "many", "nan"):
        with pytest.raises(ValueError):
            Faults(fail=wrong)
