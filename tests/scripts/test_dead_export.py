"""Exported dead letters: complete lines that `relay push` reads again."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from relay.message import parse_envelope
from relay.operations.dead import DeadScope
from relay.operations.dead_export import Exported, ExportForm, export
from relay.operations.dead_selection import DeadSelection
from relay.redis_client.client import Client
from relay.store import dead
from relay.store.record import pack
from testing.builders import a_message

SCOPE = DeadScope("relay", ("one",), ("notifications",), "relay.yaml")
STREAM = dead.lane_stream("relay", "one")


async def lines(redis: Client, form: ExportForm) -> tuple[list[bytes], Exported]:
    written: list[bytes] = []
    exported = await export(redis, SCOPE, DeadSelection(), form, written.append)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in written)
    assert exported.lines == len(written)
    return written, exported


@pytest.mark.parametrize("form", ["letters", "messages"])
async def test_an_exported_message_is_the_same_when_it_is_pushed_again(
    redis: Client, form: ExportForm
) -> None:
    payload = b'{"n": 1.10,\r\n "text": "gr\xc3\xbc\xc3\x9fe", "big": 12345678901234567890}'
    message = a_message(
        "order-17",
        payload_json=payload,
        priority="low",
        created_at=time.time(),
        collapse_key="c",
        ordering_key="o",
        reply_to="receipts:a",
        group="acme",
    )
    letter: Any = {"ticket": 1, "record": pack(message), "reason": "413", "status": 413, "attempts": 1}
    await redis.xadd(STREAM, {**letter, "body": b"\xff"})
    (line,), _ = await lines(redis, form)
    if form == "letters":
        document = json.loads(line)
        assert base64.b64decode(document["body_base64"]) == b"\xff"
        assert (document["provider"], document["status"], document["id"]) == ("one", 413, "order-17")
        line = line[line.index(b'"message":') + len(b'"message":') : line.rindex(b"}")]
    provider, again = parse_envelope(line, "notifications", time.time())
    assert provider == "one"
    assert again.payload_json == payload.replace(b"\r\n", b"  ")
    assert (again.id, again.priority, again.group, again.ordering_key) == ("order-17", 2, "acme", "o")
    assert (again.created_at, again.reply_to) == (message.created_at, "receipts:a")


async def test_malformed_elements_are_exported_whole_with_their_raw_bytes(redis: Client) -> None:
    huge = b'{"x": "' + b"y" * (3 * dead.RAW_BYTES)
    for raw in (huge, b"\xff\x00", b"{\n}"):
        letter: Any = {"raw": raw, "reason": "not JSON", "queue": "notifications"}
        await redis.xadd(STREAM, letter)
    written, _ = await lines(redis, "letters")
    first, second, third = map(json.loads, written)
    assert first["raw"].encode() == huge
    assert base64.b64decode(second["raw_base64"]) == b"\xff\x00"
    assert third["raw"] == "{\n}"
    pushable, exported = await lines(redis, "messages")
    assert pushable == [huge + b"\n"]
    assert exported.left == 2
