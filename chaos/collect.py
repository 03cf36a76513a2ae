"""Reads the evidence in Redis after a run: receipts, dead letters, feedback, counters, keys."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from chaos.configuration import PREFIX, PROVIDERS, QUEUES
from chaos.evidence import DeadLetter, Evidence, Receipt
from chaos.harness import Harness
from chaos.topology import direct
from relay.redis_client.client import Client
from relay.redis_client.connect import open_client
from relay.store.dead import lane_stream, queue_stream, read
from relay.store.keys import FleetKeys, LaneKeys

_MARK = re.compile(rb"#(\d+)#")
_NUMBER = re.compile(rb'"n":(\d+)')
_PAGE = 5000


async def collect(harness: Harness) -> Evidence:
    """Collect all evidence from Redis. Nothing may write any more."""
    evidence = Evidence({push.number: push for push in harness.plan.pushes})
    client = open_client(harness.topology.url)
    try:
        for name in sorted({push.reply_to for push in harness.plan.pushes if push.has_receipt}):
            evidence.receipts += [receipt async for receipt in _receipts(client, name)]
        for provider in PROVIDERS:
            stream = lane_stream(PREFIX, provider)
            evidence.letters += [letter async for letter in _letters(client, stream, provider)]
            control: Any = await client.hgetall(LaneKeys.of(PREFIX, provider).part("control"))
            evidence.counters[provider] = {
                name.decode(): int(value) for name, value in control.items() if value.isdigit()
            }
        for queue in QUEUES:
            evidence.letters += [
                letter async for letter in _letters(client, queue_stream(PREFIX, queue), queue)
            ]
        feedback: Any = await client.xrange(FleetKeys(PREFIX).feedback)
        evidence.feedback = [fields[b"id"].decode() for _, fields in feedback]
        workers: Any = await client.zrange(FleetKeys(PREFIX).workers, 0, -1)
        evidence.workers = [worker.decode() for worker in workers]
    finally:
        await client.aclose()
    for node in await asyncio.to_thread(harness.topology.masters):
        async with direct(node) as one:
            evidence.keys |= await _keys(one)
    return evidence


async def _receipts(client: Client, name: str) -> AsyncIterator[Receipt]:
    start = 0
    while page := await client.lrange(name, start, start + _PAGE - 1):
        start += len(page)
        for text in page:
            document = json.loads(text)
            document.setdefault("targets", {})
            document["message_id"] = document.pop("id")
            yield Receipt(**document)


async def _letters(client: Client, stream: str, name: str) -> AsyncIterator[DeadLetter]:
    async for letter in read(client, stream):
        if letter.message is None:
            found = _MARK.search(letter.raw)
        else:
            found = _NUMBER.search(letter.message.payload_json)
        yield DeadLetter(name, int(found[1]) if found else -1, letter.reason, letter.message is None)


async def _keys(client: Redis) -> dict[str, int]:
    """Return every key of one node with its number of entries."""
    lengths = {"list": "LLEN", "hash": "HLEN", "zset": "ZCARD", "set": "SCARD", "stream": "XLEN"}
    found = {}
    async for key in client.scan_iter(count=1000):
        kind: Any = await client.type(key)
        command = lengths.get(kind.decode())
        found[key.decode()] = int(await client.execute_command(command, key)) if command else 1
    return found
