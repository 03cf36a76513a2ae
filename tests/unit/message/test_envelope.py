"""The JSON contract: elements that become messages, and the reasons of those that become dead letters."""

from __future__ import annotations

import json
import re
import tracemalloc
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import MessageError
from relay.message import LARGE, MAX_DEPTH, hints, parse_bare, parse_envelope, uuid7
from testing.json_values import JSON, TEXT

NOW = 1_700_000_000.0


def envelope(**fields: Any) -> bytes:
    return json.dumps({"payload": {"channel": "site-1"}, **fields}).encode()


def parse(**fields: Any) -> Any:
    return parse_envelope(envelope(**fields), "notifications", NOW)[1]


def test_only_a_payload_is_needed() -> None:
    provider, message = parse_envelope(b'{"payload": {"channel": "site-1"}}', "notifications", NOW)
    assert provider is None
    assert message.payload == {"channel": "site-1"}
    assert (message.priority, message.created_at, message.expires_at, message.named) == (1, NOW, 0, False)
    assert uuid.UUID(message.id).version == 7


def test_every_field_arrives() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    provider, message = parse_envelope(
        envelope(
            provider="pusher",
            id="order-17",
            priority="high",
            collapse_key="c",
            ordering_key="o",
            reply_to="r",
            traceparent=trace,
            created_at=NOW - 5,
            ttl="10m",
            delay=30,
        ),
        "notifications",
        NOW,
    )
    assert provider == "pusher"
    assert (message.id, message.named, message.priority) == ("order-17", True, 0)
    assert (message.collapse_key, message.ordering_key, message.reply_to) == ("c", "o", "r")
    assert message.traceparent == trace
    assert (message.created_at, message.expires_at, message.deliver_at) == (NOW - 5, NOW + 595, NOW + 25)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (NOW, NOW),
        (1700000000, NOW),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-15T00:13:20+02:00", NOW),
        ("2023-11-14T22:13:20.500Z", NOW + 0.5),
    ],
)
def test_moments_are_unix_seconds_or_rfc_3339(value: object, seconds: float) -> None:
    assert parse(expires_at=value).expires_at == seconds


def test_the_earlier_of_two_ends_and_the_later_of_two_starts_apply() -> None:
    message = parse(expires_at=NOW + 100, ttl=50, deliver_at=NOW + 10, delay=20)
    assert (message.expires_at, message.deliver_at) == (NOW + 50, NOW + 20)


def test_null_is_the_same_as_absent() -> None:
    fields = (
        "id",
        "provider",
        "priority",
        "ttl",
        "delay",
        "expires_at",
        "collapse_key",
        "reply_to",
        "traceparent",
    )
    assert not parse(**dict.fromkeys(fields)).named


def test_an_unreadable_traceparent_is_ignored_as_w3c_requires() -> None:
    assert parse(traceparent="nonsense\r\nx: y").traceparent == ""


def test_the_payload_stays_as_it_was_written() -> None:
    _, message = parse_envelope(b'{"payload": {"body" :  {"b": 1.10, "a":"\\u00e9"} }}', "q", NOW)
    assert message.raw("body") == b'{"b": 1.10, "a":"\\u00e9"}'
    assert message.raw("other") is None


def test_a_bare_element_is_the_payload_itself() -> None:
    message = parse_bare(b' {"channel": "site-1", "id": 3, "hits": 3} ', "hits", NOW, 2)
    assert message.payload_json == b'{"channel": "site-1", "id": 3, "hits": 3}'
    assert message.priority == 2


def deep(levels: int) -> bytes:
    return b'{"payload": ' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


BAD = [
    (b"", "not JSON: the element is empty"),
    (b"  \n", "not JSON: the element is empty"),
    (b"hello", "not JSON: invalid character (byte 0)"),
    (b'{"payload": {}', "not JSON: Input data was truncated"),
    (b'{"payload": {}} x', "not JSON: trailing characters (byte 17)"),
    (b"\xef\xbb\xbf{}", "not JSON: it starts with a byte order mark"),
    (b'{"payload": {"a": NaN}}', "not JSON: NaN and Infinity are not JSON numbers"),
    (b'{"payload": {"a": -Infinity}}', "not JSON: NaN and Infinity are not JSON numbers"),
    (b'{"payload": {"a": "\xff"}}', "not UTF-8: invalid start byte at byte 19"),
    (b"\xff\xfe{", "not UTF-8: invalid start byte at byte 0"),
    (b'{"payload": {"a": "\\ud800"}}', "not valid Unicode: a lone surrogate"),
    (b'{"payload": {"a": "\\udc00x"}}', "not valid Unicode: a lone surrogate"),
    (b'{"payload": {"a": 1}, "payload": {"a": 2}}', 'duplicate key "payload"'),
    (b'{"payload": {"b": {"a": 1, "a" : 2}}}', 'duplicate key "a"'),
    (b'{"payload": {"a": 1, "\\u0061": 2}}', 'duplicate key "a"'),
    (b"[1]", "the element must be a JSON object, not an array"),
    (b'"text"', "the element must be a JSON object, not a string"),
    (b"null", "the element must be a JSON object, not null"),
    (b"{}", "payload: missing"),
    (b'{"payload": "text"}', "payload: must be an object, not a string"),
    (b'{"payload": null}', "payload: must be an object, not null"),
    (b'{"payload": [1]}', "payload: must be an object, not an array"),
    (b'{"channel": "site-1"}', 'unknown field "channel"'),
    (b'{"payload": {}, "prioritty": "low"}', "unknown field \"prioritty\": did you mean 'priority'?"),
    (b'{"payload": {}, "priority": "urgent"}', "priority: invalid enum value 'urgent'"),
    (b'{"payload": {}, "id": 7}', "id: expected str | null, got int"),
    (b'{"payload": {}, "id": ""}', "id: expected str of length >= 1"),
    (b'{"payload": {}, "id": "' + b"x" * 129 + b'"}', "id: expected str of length <= 128"),
    (b'{"payload": {}, "provider": ["a"]}', "provider: expected str | null, got array"),
    (b'{"payload": {}, "ttl": true}', "ttl: expected"),
    (b'{"payload": {}, "ttl": -1}', "ttl: "),
    (b'{"payload": {}, "ttl": "soon"}', "ttl: "),
    (b'{"payload": {}, "delay": 1e12}', "delay: 1000000000000.0 is too long"),
    (
        b'{"payload": {}, "expires_at": 1700000000000}',
        "expires_at: 1700000000000 is too large for Unix seconds",
    ),
    (b'{"payload": {}, "expires_at": "tomorrow"}', 'expires_at: "tomorrow" is neither Unix seconds nor'),
    (
        b'{"payload": {}, "expires_at": "2023-11-14T22:13:20"}',
        'expires_at: "2023-11-14T22:13:20" needs a time zone',
    ),
    (b'{"payload": {}, "deliver_at": -5}', "deliver_at: -5.0 is not a Unix time"),
    (deep(MAX_DEPTH), f"nested deeper than {MAX_DEPTH} levels"),
    (deep(100_000), f"nested deeper than {MAX_DEPTH} levels"),
    (b"[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
]


@pytest.mark.parametrize(("element", "reason"), BAD, ids=[reason[:40] for _, reason in BAD])
def test_a_bad_element_is_explained_in_one_line(element: bytes, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_envelope(element, "notifications", NOW)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_depth_is_allowed_up_to_the_limit() -> None:
    parse_envelope(deep(MAX_DEPTH - 1), "q", NOW)


@pytest.mark.parametrize("filler", ["", LARGE * "."])
def test_text_that_looks_like_keys_is_not_taken_for_duplicates(filler: str) -> None:
    payload = {"payload": {"a": '{"a": 1, "a": 2}', "url": f"http://x/?a:b{filler}", 'c"': 1}}
    assert parse_envelope(json.dumps(payload).encode(), "q", NOW)[1].payload == payload["payload"]


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        ({"a": LARGE * "x", "b": {"c": [1, 2]}}, True),
        ({"a": "x"}, False),
        ({"a": LARGE * [1]}, False),
        ({"a": LARGE * [[]]}, False),
    ],
    ids=["long text", "short", "many values", "many arrays"],
)
def test_a_large_payload_of_few_values_is_decoded_once(payload: dict[str, Any], kept: bool) -> None:
    for message in (
        parse_bare(json.dumps(payload).encode(), "q", NOW),
        parse_envelope(json.dumps({"payload": payload}).encode(), "q", NOW)[1],
    ):
        assert ("payload" in vars(message)) is kept
        assert message.payload == payload


@given(st.dictionaries(TEXT, JSON, max_size=5), st.booleans())
def test_every_json_object_is_a_payload_and_survives_unchanged(
    payload: dict[str, Any], ascii_only: bool
) -> None:
    text = json.dumps(payload, ensure_ascii=ascii_only)
    assert json.loads(parse_bare(text.encode(), "q", NOW).payload_json) == payload
    _, message = parse_envelope(b'{"payload":' + text.encode() + b"}", "q", NOW)
    assert message.payload_json == text.encode()


@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_no_bytes_do_more_than_raise_a_message_error(element: bytes) -> None:
    for parser in (parse_envelope, parse_bare):
        try:
            parser(element, "q", NOW)
        except MessageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - the property is about every error
    hints(element)


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
    st.sampled_from(["", LARGE * ".", LARGE * ":", LARGE * '\\":']),
)
def test_duplicate_keys_are_found_wherever_they_are(keys: list[str], filler: str) -> None:
    text = "{" + ",".join(f'"{key}" : "{filler}"' for key in keys) + "}"
    element = f'{{"x": [{{"y": {text}}}]}}'.encode()
    if len(set(keys)) == len(keys):
        parse_bare(element, "q", NOW)
    else:
        with pytest.raises(MessageError, match="duplicate key"):
            parse_bare(element, "q", NOW)


def test_generated_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [uuid7() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert [text[:13] for text in ids] == sorted(text[:13] for text in ids)
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)
        for text in ids
    )


def test_a_long_name_of_an_unknown_field_is_cut_before_it_is_compared() -> None:
    """A comparison keeps several times the name in memory, and takes the square of its length."""
    element = b'{"payload": {}, "%s": 1}' % (b"x" * 500_000)
    tracemalloc.start()
    try:
        with pytest.raises(MessageError, match="unknown field") as caught:
            parse_envelope(element, "q", 0.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(element)
    assert len(str(caught.value)) < 1000
