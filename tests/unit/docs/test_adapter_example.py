"""The adapter on the page about writing adapters works without a change."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from relay.message import parse_bare
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.provider import AdapterOptions, Response
from relay.settings.load import load

PAGE = Path(__file__).parents[3] / "docs/how-to/write-an-adapter.md"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The adapter, and its tests."""
    names = ("relay_chat", "chat_tests")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in zip(names, blocks, strict=True):
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
    return [import_module(name) for name in names]


@pytest.fixture
def chat(modules: list[Any]) -> Any:
    module = modules[0]
    return module.Chat("chat", module.ChatOptions(type="chat", url="https://chat.example/", token="word"))


def test_the_tests_of_the_page_pass(modules: list[Any]) -> None:
    tests = {name: test for name, test in vars(modules[1]).items() if name.startswith("test_")}
    assert len(tests) == 2
    for test in tests.values():
        test()


def test_the_configuration_of_the_page_is_valid(
    modules: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("CHAT_TOKEN", "word")
    file = tmp_path / "relay.yaml"
    file.write_text(f"queues: [{{name: notifications, provider: room}}]\n{part}")
    assert load(file, AdapterOptions({"chat": modules[0].Chat})).providers["room"].rate


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
