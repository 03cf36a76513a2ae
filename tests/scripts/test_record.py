"""The record of a message in Redis."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from relay.message import Message
from relay.message.fan_out import expand
from relay.store.items import encode_headerless, encode_items
from relay.store.record import has_header, pack, pack_targets, unpack, unpack_claimed

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
moments = st.just(0.0) | st.floats(1, 1e10)

messages = st.builds(
    Message,
    id=texts,
    queue=texts,
    payload_json=st.binary(max_size=500),
    priority=st.integers(0, 2),
    created_at=moments,
    expires_at=moments,
    deliver_at=moments,
    collapse_key=texts,
    ordering_key=texts,
    reply_to=texts,
    traceparent=texts,
    named=st.booleans(),
)


@given(messages)
def test_a_record_gives_back_the_message(message: Message) -> None:
    record = pack(message)
    assert unpack(record) == message
    assert (record[:2] != b"\0\0") == has_header(message)


@given(st.lists(messages, max_size=3))
def test_messages_without_a_header_are_encoded_the_short_way(some: list[Message]) -> None:
    expected = None if any(map(has_header, some)) else encode_items(some)
    assert encode_headerless(some) == expected


@given(messages, texts.filter(bool), st.lists(st.integers(), min_size=1, max_size=5))
def test_targets_of_a_chunk_are_encoded_together(template: Message, group: str, targets: list[int]) -> None:
    template = msgspec.structs.replace(template, payload_json=b'{"a":1}', target_field="to", group=group)
    parts = expand(template, "4400000000000001", json.dumps(targets).encode(), 7)
    records = pack_targets(parts)
    assert records == [pack(part) for part in parts]
    for part, record in zip(parts, records, strict=True):
        assert unpack_claimed(record) == (part, False, "4400000000000001")


def test_a_plain_message_pays_two_bytes() -> None:
    assert pack(Message(id="i", queue="q", payload_json=b"{}"))[:2] == b"\0\0"
