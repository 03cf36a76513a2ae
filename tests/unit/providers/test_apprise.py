"""Apprise: the real library and its json:// service, against a local receiver."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from providers.apprise import Apprise, AppriseOptions
from relay.errors import ConfigError, TransportError
from relay.message import Message, parse_envelope
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.provider import Response
from relay.settings.load import loads
from testing.canned import Canned
from testing.raw_server import closed_port, drips, serving
from testing.receiver import Answer, Receiver
from testing.relay_process import relay

FILE = "queues: [{name: q}]\nproviders:\n  ops:\n    type: apprise\n"


def a_message(payload: Any) -> Message:
    return parse_envelope(json.dumps({"id": "a", "payload": payload}).encode(), "notifications", 0)[1]


@asynccontextmanager
async def an_apprise(url: str, name: str = "ops", **options: Any) -> AsyncIterator[Apprise]:
    adapter = Apprise(name, AppriseOptions(type="apprise", url=url, **options))
    await adapter.start(Canned(Response(500)))  # the library has connections of its own
    try:
        yield adapter
    finally:
        await adapter.close()


def json_url(receiver: Receiver, path: str = "/hook") -> str:
    return receiver.url.replace("http://", "json://") + path


async def deliver(adapter: Apprise, payload: Any) -> Outcome:
    message = a_message(payload)
    assert adapter.check(message) is None
    (found,) = await adapter.deliver([message])
    return found


async def test_the_service_gets_the_fields_of_the_payload(receiver: Receiver) -> None:
    async with an_apprise(json_url(receiver)) as adapter:
        payload = {"title": "Größe", "body": "a\\nb\n☃", "type": "warning", "format": "text"}
        assert await deliver(adapter, payload) == Delivered()
        assert await deliver(adapter, {"body": "only"}) == Delivered()
    first, second = (json.loads(request.body) for request in receiver.requests)
    assert (first["title"], first["message"], first["type"]) == ("Größe", "a\\nb\n☃", "warning")
    assert (second["title"], second["message"], second["type"]) == ("", "only", "info")


async def test_the_payloads_of_the_page_are_delivered(receiver: Receiver) -> None:
    page = (Path(__file__).parents[3] / "docs/reference/providers/apprise.md").read_text()
    elements = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    assert len(elements) == 2
    async with an_apprise(json_url(receiver)) as adapter:
        for element in elements:
            assert await deliver(adapter, element["payload"]) == Delivered()


async def test_null_means_absent(receiver: Receiver) -> None:
    async with an_apprise(json_url(receiver)) as adapter:
        payload = {"body": "only", "title": None, "type": None, "format": None}
        assert await deliver(adapter, payload) == Delivered()
        assert adapter.check(a_message({"body": None, "title": None})) is not None
    (request,) = receiver.requests
    sent = json.loads(request.body)
    assert (sent["title"], sent["message"], sent["type"]) == ("", "only", "info")


async def test_a_status_in_the_library_s_log_decides(receiver: Receiver) -> None:
    """All statuses are in test_statuses.py; here the library's own words for some of them."""
    expected = {404: Unauthorised, 429: Throttled, 503: Retry, 422: Rejected}
    async with an_apprise(json_url(receiver)) as adapter:
        for status, kind in expected.items():
            receiver.answers.append(Answer(status))
            found = await deliver(adapter, {"body": "a"})
            assert type(found) is kind, status
            assert f"error={status}" in getattr(found, "reason", "")
            assert getattr(found, "status", None) == status


async def test_a_refused_connection_is_a_retry_with_that_reason() -> None:
    with closed_port() as port:
        async with an_apprise(f"json://127.0.0.1:{port}/s3cret") as adapter:
            found = await deliver(adapter, {"body": "a"})
    assert isinstance(found, Retry)
    assert "onnection error" in found.reason
    assert "s3cret" not in found.reason


async def test_a_silent_service_is_given_up_within_the_timeout(receiver: Receiver) -> None:
    """By Apprise after half of it, which is for the connection and the answer each."""
    receiver.gate.clear()
    async with an_apprise(json_url(receiver), timeout=4) as adapter, asyncio.timeout(120):
        assert isinstance(await deliver(adapter, {"body": "a"}), Retry)


async def test_an_adapter_works_in_one_process_that_comes_with_its_first_message(receiver: Receiver) -> None:
    before = children()
    receiver.gate.clear()
    async with an_apprise(json_url(receiver), concurrency=3) as adapter:
        assert children() == before
        deliveries = [asyncio.create_task(deliver(adapter, {"body": str(number)})) for number in range(9)]
        await receiver.until(3)
        assert len(children() - before) == 1
        assert len(receiver.requests) == 3
        receiver.gate.set()
        assert await asyncio.gather(*deliveries) == [Delivered()] * 9
    assert await gone(children() - before)


async def test_a_message_that_hangs_apprise_ends_with_the_timeout_and_costs_no_other(
    receiver: Receiver,
) -> None:
    """Apprise takes many minutes to make HTML of such Markdown."""
    before = children()
    url = json_url(receiver) + "?format=html"
    async with an_apprise(url, timeout=5, concurrency=2) as adapter, asyncio.timeout(120):
        assert await deliver(adapter, {"body": "*a*", "format": "markdown"}) == Delivered()
        (first,) = children() - before
        hanging = {"body": "[" * 90_000, "format": "markdown"}
        stuck = [asyncio.create_task(failure(adapter, hanging)) for _ in range(2)]
        assert await asyncio.gather(*stuck) == ["no answer within 5 s"] * 2
        assert await deliver(adapter, {"body": "b"}) == Delivered()
        assert await gone({first})
    assert await gone(children() - before)


async def test_a_process_that_ends_by_itself_is_replaced(receiver: Receiver) -> None:
    before = children()
    receiver.gate.clear()
    async with an_apprise(json_url(receiver)) as adapter:
        waiting = asyncio.create_task(failure(adapter, {"body": "a"}))
        await receiver.until(1)
        (first,) = children() - before
        os.kill(first, signal.SIGKILL)
        assert await waiting == "the Apprise process has ended"
        receiver.gate.set()
        assert await deliver(adapter, {"body": "b"}) == Delivered()


async def test_a_service_that_drips_its_answer_ends_with_the_timeout() -> None:
    """The timeout of the library `requests` is for each read."""

    drip = drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x" * 99_999)
    async with serving(drip) as port, an_apprise(f"json://127.0.0.1:{port}/", timeout=1) as adapter:
        assert await failure(adapter, {"body": "a"}) == "no answer within 1 s"


async def test_proxies_and_passwords_of_the_environment_are_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with an_apprise(json_url(receiver)) as adapter:
        assert await deliver(adapter, {"body": "a"}) == Delivered()
    assert "authorization" not in {name.lower() for name in receiver.requests[0].headers}


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = lambda request: Answer(307, headers={"location": f"{receiver.url}/other"})
    async with an_apprise(json_url(receiver)) as adapter:
        found = await deliver(adapter, {"body": "a"})
    assert isinstance(found, Rejected)
    assert found.reason.endswith("(redirects are not followed)")
    assert len(receiver.requests) == 1


def children() -> set[int]:
    """The processes that this one has started."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(number) for number in path.read_text().split()}


async def gone(numbers: set[int]) -> bool:
    async with asyncio.timeout(120):
        while numbers & children():
            await asyncio.sleep(0.02)
    return True


async def failure(adapter: Apprise, payload: Any) -> str:
    with pytest.raises(TransportError) as caught:
        await deliver(adapter, payload)
    return str(caught.value)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "body: missing (a title on its own is enough)"),
        ({"body": " ", "title": ""}, "body: missing (a title on its own is enough)"),
        ({"body": 3}, "body: expected `str`, got `int`"),
        ({"body": "a", "type": "bad"}, "type: invalid enum value 'bad'"),
        ({"body": "a", "format": "rtf"}, "format: invalid enum value 'rtf'"),
        ({"body": "a" * 100_001}, "body: 100001 characters; at most 100000 are sent"),
        ({"body": "a", "title": "b" * 1_001}, "title: 1001 characters; at most 1000 are sent"),
        ({"body": "a", "attach": "x"}, "object contains unknown field `attach`"),
    ],
)
async def test_a_message_that_apprise_cannot_send_is_rejected(payload: Any, reason: str) -> None:
    async with an_apprise("json://127.0.0.1:9/") as adapter:
        assert adapter.check(a_message(payload)) == Rejected(reason)


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(FILE + text, "relay.yaml", {"apprise": AppriseOptions}, {})
    (line,) = caught.value.problems
    return line


def test_a_url_that_apprise_does_not_know_is_an_error_of_the_file_that_hides_it() -> None:
    assert problem("    url: nosuch://s3cret/x\n") == (
        "relay.yaml:5:10: providers.ops.url: is not a nosuch:// URL that Apprise knows; "
        "see https://appriseit.com/services/"
    )
    assert "s3cret" not in problem("    url: s3cret\n")


def test_the_error_for_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert problem("    url: json://127.0.0.1/\n") == (
        "relay.yaml:5:10: providers.ops.url: the library Apprise is not installed: "
        "pip install 'relay-push[apprise]'"
    )


async def test_relay_check_without_the_library_and_with_it(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(FILE + "    url: json://127.0.0.1/\n")
    checked = await relay("check", "-c", str(tmp_path / "relay.yaml"))
    assert checked.code == 0
    (tmp_path / "apprise.py").write_text("raise ImportError\n")
    checked = await relay("check", "-c", str(tmp_path / "relay.yaml"), PYTHONPATH=str(tmp_path))
    assert checked.code == 2
    assert "pip install 'relay-push[apprise]'" in checked.err


async def test_verifying_sends_nothing() -> None:
    async with an_apprise("json://127.0.0.1:9/s3cret") as adapter:
        assert await adapter.verify() == "nothing was sent; Apprise knows the url as one of JSON"


async def test_messages_travel_alone() -> None:
    async with an_apprise("json://127.0.0.1:9/") as adapter:
        assert adapter.batch_size == 1
