"""Apprise: the real library and its json:// service, against a local receiver."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from providers.apprise import Apprise, AppriseOptions
from relay.errors import ConfigError
from relay.message import Message, parse_envelope
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.settings.load import loads
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.relay_process import relay

PAGE = (Path(__file__).parents[3] / "docs/providers/apprise.md").read_text()
OUTCOMES: dict[str, type[Outcome]] = {
    "unauthorised": Unauthorised,
    "throttled": Throttled,
    "retry": Retry,
    "rejected": Rejected,
}
TABLE = [
    (int(status), OUTCOMES[found])
    for statuses, found in re.findall(r"^\| ([0-9, ]+) \| ([a-z]+)", PAGE, re.MULTILINE)
    for status in statuses.split(", ")
]
FILE = "queues: [{name: q}]\nproviders:\n  ops:\n    type: apprise\n"


def a_message(payload: Any) -> Message:
    return parse_envelope(json.dumps({"id": "a", "payload": payload}).encode(), "notifications", 0)[1]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@asynccontextmanager
async def an_apprise(url: str, name: str = "ops", **options: Any) -> AsyncIterator[Apprise]:
    adapter = Apprise(name, AppriseOptions(type="apprise", url=url, **options))
    await adapter.start(None)  # type: ignore[arg-type]
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


async def test_what_the_payload_says_is_what_the_service_gets(receiver: Receiver) -> None:
    async with an_apprise(json_url(receiver)) as adapter:
        payload = {"title": "Größe", "body": "a\\nb\n☃", "type": "warning", "format": "text"}
        assert await deliver(adapter, payload) == Delivered()
        assert await deliver(adapter, {"body": "only"}) == Delivered()
    first, second = (json.loads(request.body) for request in receiver.requests)
    assert (first["title"], first["message"], first["type"]) == ("Größe", "a\\nb\n☃", "warning")
    assert (second["title"], second["message"], second["type"]) == ("", "only", "info")


@pytest.mark.parametrize(("status", "expected"), TABLE)
async def test_answers_by_the_table_of_the_page(
    receiver: Receiver, status: int, expected: type[Outcome]
) -> None:
    receiver.answer = lambda request: Answer(status)
    async with an_apprise(json_url(receiver)) as adapter:
        found = await deliver(adapter, {"body": "a"})
    assert isinstance(found, expected)
    assert not isinstance(found, Delivered)
    assert f"error={status}" in getattr(found, "reason", "")
    assert getattr(found, "status", None) == status


def test_the_page_speaks_of_every_outcome() -> None:
    assert {found for _, found in TABLE} == set(OUTCOMES.values())


async def test_no_connection_is_a_retry_that_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with an_apprise(f"json://127.0.0.1:{free.getsockname()[1]}/s3cret") as adapter:
            found = await deliver(adapter, {"body": "a"})
    assert isinstance(found, Retry)
    assert "onnection error" in found.reason
    assert "s3cret" not in found.reason


async def test_a_service_that_says_nothing_is_given_up_within_the_time_out(receiver: Receiver) -> None:
    receiver.gate.clear()
    async with an_apprise(json_url(receiver), timeout=0.4) as adapter, asyncio.timeout(120):
        assert isinstance(await deliver(adapter, {"body": "a"}), Retry)


async def test_no_more_threads_than_concurrency_and_none_at_rest(receiver: Receiver) -> None:
    def threads() -> int:
        return sum(thread.name.startswith("apprise-counted") for thread in threading.enumerate())

    receiver.gate.clear()
    async with an_apprise(json_url(receiver), "counted", concurrency=3) as adapter:
        assert threads() == 0
        deliveries = [asyncio.create_task(deliver(adapter, {"body": str(number)})) for number in range(9)]
        await receiver.until(3)
        assert threads() == 3
        assert len(receiver.requests) == 3
        receiver.gate.set()
        assert await asyncio.gather(*deliveries) == [Delivered()] * 9
        assert threads() == 3


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "body: missing (a title alone would do)"),
        ({"body": " ", "title": ""}, "body: missing (a title alone would do)"),
        ({"body": 3}, "body: expected `str`, got `int`"),
        ({"body": "a", "type": "bad"}, "type: invalid enum value 'bad'"),
        ({"body": "a", "format": "rtf"}, "format: invalid enum value 'rtf'"),
        ({"body": "a", "attach": "x"}, "object contains unknown field `attach`"),
    ],
)
async def test_what_apprise_could_not_send_is_rejected(payload: Any, reason: str) -> None:
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


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert (adapter.batch_size, adapter.group(a_message({"body": "a"}))) == (1, None)
