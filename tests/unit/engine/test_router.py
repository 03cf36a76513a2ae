"""Routing of queue elements to providers, and refusals of malformed ones."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from relay.engine.router import Router
from relay.message import MAX_CONTAINERS, MAX_VALUES, TARGETS_SIZE, Message
from relay.settings.models import QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store.items import Malformed, Refusal
from relay.text import LONGEST_REASON
from testing.builders import options
from testing.fake_provider import FakeProvider

NOW = 1_790_000_000.0
DAY = 86400.0


def a_router(**queue: Any) -> Router:
    """A router of a queue `q` whose configuration has the providers one, two and three."""
    entry = QueueSettings(name="q", **queue)
    providers = {name: options() for name in ("one", "two", "three")}
    settings = Settings(queues=[entry, QueueSettings(name="other")], providers=providers)
    return Router(entry, settings, clock=lambda: NOW)


def element(**fields: Any) -> bytes:
    return json.dumps({"payload": {}, **fields}).encode()


def routed(router: Router, **fields: Any) -> str:
    """The provider of a message, or why it is none."""
    provider, item = router.route(element(**fields))
    return item.reason if isinstance(item, Malformed) else str(provider)


@pytest.mark.parametrize(
    ("queue", "admitted"),
    [
        ({}, {"one", "two", "three"}),
        ({"provider": "one"}, {"one"}),
        ({"provider": "one", "providers": ["two"]}, {"one", "two"}),
        ({"provider": "one", "providers": "*"}, {"one", "two", "three"}),
        ({"providers": ["two"]}, {"two"}),
        ({"providers": ["*"]}, {"one", "two", "three"}),
    ],
)
def test_a_queue_admits_its_providers(queue: dict[str, Any], admitted: set[str]) -> None:
    router = a_router(**queue)
    found = {name: routed(router, provider=name) for name in ("one", "two", "three")}
    assert {name for name, provider in found.items() if provider == name} == admitted
    for name in found.keys() - admitted:
        assert f"the queue 'q' does not admit '{name}'" in found[name]


def test_a_provider_that_is_not_admitted_files_the_element_under_the_queue() -> None:
    by_lane, rejected = a_router(provider="one").sort([element(provider="two")])
    assert (by_lane, len(rejected)) == ({}, 1)


@pytest.mark.parametrize(
    ("patterns", "key", "allowed"),
    [
        (None, "receipts:a", True),
        (None, "receipts", False),
        (None, "celery", False),
        (["ends", "done:?"], "ends", True),
        (["ends", "done:?"], "done:1", True),
        (["ends", "done:?"], "done:12", False),
        (["ends", "done:?"], "receipts:a", False),
        (["*"], "celery", True),
        (["*"], "relay:wake", False),
        (["*"], "relay", False),
        (["*"], "other", False),
        ([], "receipts:a", False),
    ],
)
def test_a_receipt_goes_to_lists_that_the_queue_allows(
    patterns: list[str] | None, key: str, allowed: bool
) -> None:
    router = a_router(provider="one", **({} if patterns is None else {"reply_to": patterns}))
    outcome = routed(router, reply_to=key)
    assert outcome == "one" if allowed else outcome.startswith("reply_to: ")


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"delay": "30d"}, True),
        ({"delay": "31d"}, False),
        ({"deliver_at": NOW + 29 * DAY}, True),
        ({"deliver_at": "5138-11-16T09:46:39Z"}, False),
        ({"created_at": NOW + 20 * DAY, "delay": "20d"}, False),
        ({"created_at": NOW - 20 * DAY, "delay": "40d"}, True),
    ],
)
def test_a_delay_has_a_longest(fields: dict[str, Any], allowed: bool) -> None:
    outcome = routed(a_router(provider="one"), **fields)
    assert outcome == "one" if allowed else outcome.startswith("deliver_at: ")
    assert routed(a_router(provider="one", max_delay="400d"), delay="399d") == "one"


def test_a_scoped_queue_keeps_the_id_that_the_application_chose() -> None:
    _, item = a_router(provider="one", scope="queue").route(element(id="a", ordering_key="k"))
    assert isinstance(item, Message)
    assert (item.id, item.ordering_key, item.scope) == ("a", "k", "q")
    _, plain = a_router(provider="one", scope="queue").route(element())
    assert isinstance(plain, Message)
    assert plain.scope == "", "a message without id and keys needs none"


@pytest.mark.parametrize("field", ["id", "collapse_key", "ordering_key"])
def test_an_unscoped_name_cannot_be_taken_for_a_scoped_one(field: str) -> None:
    assert "must not begin with a NUL" in routed(a_router(provider="one"), **{field: "\x001:q:a"})
    assert routed(a_router(provider="one"), **{field: "a\x00"}) == "one"


def test_a_malformed_element_with_an_id_and_a_list_has_a_receipt() -> None:
    fields = {"id": "a", "reply_to": "receipts:1"}
    by_lane, _ = a_router(provider="one").sort([element(**fields, nonsense=1)])
    (item,) = by_lane["one"]
    assert isinstance(item, Malformed)
    assert (item.id, item.reply_to) == ("a", "receipts:1")
    by_lane, rejected = a_router().sort([element(**fields, provider="nobody")])
    (refusal,) = by_lane["one"]
    assert isinstance(refusal, Refusal)
    assert (refusal.id, refusal.reply_to, refusal.provider) == ("a", "receipts:1", "nobody")
    assert len(rejected) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "a", "reply_to": "celery"},
        {"id": "a", "reply_to": "relay:wake"},
        {"id": "a", "reply_to": 5},
        {"id": "", "reply_to": "receipts:1"},
        {"id": "x" * 129, "reply_to": "receipts:1"},
        {"id": ["a"], "reply_to": "receipts:1"},
        {"reply_to": "receipts:1"},
        {"id": "a"},
    ],
)
def test_a_malformed_element_without_a_valid_id_or_list_has_no_receipt(fields: dict[str, Any]) -> None:
    provider, item = a_router(provider="one").route(element(**fields, nonsense=1))
    assert provider == "one"
    assert isinstance(item, Malformed)
    assert (item.id, item.reply_to) == ("", "")


@pytest.mark.parametrize("field", ["provider", "reply_to", "priority", "ttl", "deliver_at", "delay", "x"])
def test_a_reason_is_short_however_long_the_fault_is(field: str) -> None:
    for text in ("y" * 500_000, "1" * 500_000, "[" * 500_000):
        reason = routed(a_router(provider="one"), **{field: text})
        assert len(reason) <= LONGEST_REASON + 1
    reason = routed(a_router(provider="one"), **{"n" * 500_000: 1})
    assert len(reason) <= LONGEST_REASON + 1


def test_a_large_element_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    monkeypatch.setattr("relay.engine.router.parse_envelope", lambda text, *rest: decoded.append(len(text)))
    large = 2 << 20
    for refused in (
        b'{"payload":{},"%s":{"targets":1}}' % (b"x" * large),
        b'{"payload":{"targets":[1],"%s":1}}' % (b"x" * large),
        b'{"payload":{"x":{"targets":["%s"]}}}' % (b"x" * large),
        b'{"payload":{"targets":[%s1]}}' % (b"1," * 3 * MAX_VALUES),
        b'{"payload":{"targets":[%s]}}' % (b"[" * 2 * MAX_VALUES + b'"' + b"x" * large + b'"'),
        b'{"payload":{"targets":["%s"]}}' % (b"x" * (TARGETS_SIZE + large)),
        b'"targets"' + b"[" * large,
        b'"targets"' + b"\xff" * large,
    ):
        _, item = a_router(provider="one").route(refused)
        assert isinstance(item, Malformed)
        assert re.match(r"\d+ bytes; the queue 'q' takes at most|payload.targets: ", item.reason)
    assert decoded == []


def test_an_element_of_many_brackets_is_refused() -> None:
    text = b'{"payload":{"a":[%s[]]}}' % (b"[]," * MAX_CONTAINERS)
    _, item = a_router(provider="one").route(text)
    assert isinstance(item, Malformed)
    assert "opening brackets and braces" in item.reason


def test_an_adapter_that_fails_costs_its_message_only(monkeypatch: pytest.MonkeyPatch) -> None:
    router = a_router(provider="one")
    monkeypatch.setattr("relay.engine.router.parse_envelope", lambda *_: 1 / 0)
    provider, item = router.route(element())
    assert provider == "one"
    assert isinstance(item, Malformed)
    assert "ZeroDivisionError" in item.reason


class EachHost(ProviderOptions):
    """Options of an adapter whose messages bring a URL."""

    @property
    def brings_url(self) -> bool:
        return True


def test_an_adapter_that_fails_on_an_element_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    own = EachHost(type="test")
    provider, queue = FakeProvider(own), QueueSettings(name="q", provider="test")

    def destination(message: Message) -> str:
        return str(message.payload["host"])

    monkeypatch.setattr(provider, "destination", destination)
    router = Router(queue, Settings(queues=[queue], providers={"test": own}), {"test": provider})
    by_lane, rejected = router.sort([b'{"payload": {}}', b'{"payload": {"host": "a.example"}}'])
    (malformed, message) = by_lane["test"]
    assert isinstance(malformed, Malformed)
    assert (malformed.raw, malformed.reason) == (
        b'{"payload": {}}',
        "relay failed to read it: KeyError: 'host'",
    )
    assert isinstance(message, Message)
    assert message.group == "a.example"
    assert rejected == []
