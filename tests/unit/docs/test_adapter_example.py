"""The adapter on the page about writing adapters works as it stands."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from relay.message import parse_bare
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.provider import Response

PAGE = Path(__file__).parents[3] / "docs/how-to/write-an-adapter.md"


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "chat_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "chat_of_the_page", raising=False)
    module = import_module("chat_of_the_page")
    options = module.ChatOptions(type="chat", url="https://chat.example/", token="word")
    return module.Chat("chat", options)


def test_the_example_sends_a_message(chat: Any) -> None:
    message = parse_bare(b'{"text": "Hello"}', "q", 0)
    assert chat.check(message) is None
    request = chat.request([message])
    assert (request.url, request.body) == ("https://chat.example/", b'{"text": "Hello"}')
    assert request.headers["authorization"] == "Bearer word"
    assert chat.check(parse_bare(b"{}", "q", 0)) == Rejected("text: missing")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (201, Delivered),
        (401, Unauthorised),
        (404, Unauthorised),
        (422, Rejected),
        (429, Throttled),
        (503, Retry),
    ],
)
def test_the_example_reads_answers(chat: Any, status: int, kind: type[Outcome]) -> None:
    (outcome,) = chat.outcomes([parse_bare(b'{"text": "Hello"}', "q", 0)], Response(status, {}, b"why"))
    assert type(outcome) is kind
