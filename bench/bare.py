"""The bare lane path, as a reference for the cost of relay's features.

One script moves a batch of elements into a hash and a list; a claim hands some out under a lease; they are
POSTed; a settle deletes them. It uses relay's own channel and transport, one provider, and no rate, retry,
priority, receipt, expiry, order or recovery. Options come from the environment, as for the other systems.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from hashlib import sha1
from typing import Any

import msgspec
import uvloop
from redis.asyncio import Redis

from relay.http.curl_transport import CurlTransport
from relay.http.transport import PendingRequest
from relay.provider import Request, Response
from relay.redis_client.connection import Channel

CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
URL = os.environ["BENCH_URL"] + "/hook"
BATCH, CLAIM, LINGER = 200, 100, 0.002

TAKE = """
local batch = redis.call('LRANGE', KEYS[2], 0, -1)
if ARGV[1] == '1' then redis.call('DEL', KEYS[2]); batch = {} end
if #batch == 0 then
  batch = redis.call('LRANGE', KEYS[1], 0, ARGV[2] - 1)
  if #batch > 0 then
    redis.call('LTRIM', KEYS[1], #batch, -1)
    redis.call('RPUSH', KEYS[2], unpack(batch))
  end
end
return batch
"""
ENQUEUE = """
local last = redis.call('INCRBY', KEYS[1], #ARGV) - #ARGV
local bodies, tickets = {}, {}
for index, record in ipairs(ARGV) do
  tickets[index] = last + index
  bodies[2 * index - 1], bodies[2 * index] = last + index, record
end
redis.call('HSET', KEYS[2], unpack(bodies))
redis.call('RPUSH', KEYS[3], unpack(tickets))
"""
CLAIM_SCRIPT = """
local tickets = redis.call('LPOP', KEYS[1], ARGV[1])
if not tickets then return {{}, {}} end
local leases = {}
for index, ticket in ipairs(tickets) do leases[2 * index - 1], leases[2 * index] = ticket, 1 end
redis.call('HSET', KEYS[3], unpack(leases))
return {tickets, redis.call('HMGET', KEYS[2], unpack(tickets))}
"""
SETTLE = """
redis.call('HDEL', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
redis.call('HINCRBY', KEYS[3], 'delivered', #ARGV)
"""


class Lane:
    """One queue, one provider, one worker."""

    def __init__(self, redis: Redis) -> None:
        self._channel = Channel(redis.connection_pool)
        self._transport = CurlTransport(timeout=10, concurrency=CONCURRENCY)
        self._ready: deque[tuple[bytes, bytes]] = deque()
        self._done: list[bytes] = []
        self._held = self._in_flight = 0
        self._arrived, self._freed, self._finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        for text in (TAKE, ENQUEUE, CLAIM_SCRIPT, SETTLE):
            await self._channel.execute("SCRIPT", "LOAD", text)
        async with asyncio.TaskGroup() as group:
            for loop in (self.take, self.claim, self.settle):
                group.create_task(loop())

    async def _run(self, text: str, keys: list[str], arguments: Sequence[Any]) -> Any:
        digest = sha1(text.encode()).hexdigest()
        return await self._channel.execute("EVALSHA", digest, len(keys), *keys, *arguments)

    async def take(self) -> None:
        done = 0
        while True:
            batch = await self._run(TAKE, ["bench", "taken"], [done, BATCH])
            done = 0
            if not batch:
                await asyncio.sleep(0.001)
                continue
            records = []
            for element in batch:
                msgspec.json.decode(element)
                records.append(msgspec.msgpack.encode((time.time(), element)))
            await self._run(ENQUEUE, ["number", "bodies", "ready"], records)
            done = 1
            self._arrived.set()

    async def claim(self) -> None:
        while True:
            room = min(CLAIM, 2 * CONCURRENCY - self._held)
            if room < CONCURRENCY // 2:
                self._freed.clear()
                await self._freed.wait()
                continue
            self._arrived.clear()
            tickets, records = await self._run(CLAIM_SCRIPT, ["ready", "bodies", "leases"], [room])
            if not tickets:
                await self._arrived.wait()
                continue
            self._held += len(tickets)
            self._ready.extend(zip(tickets, records, strict=True))
            self.send()

    def send(self) -> None:
        while self._ready and self._in_flight < CONCURRENCY:
            self._in_flight += 1
            ticket, record = self._ready.popleft()
            _, body = msgspec.msgpack.decode(record)
            name, now = ticket.decode(), str(int(time.time()))
            headers = {
                "content-type": "application/json",
                "webhook-id": name,
                "webhook-timestamp": now,
            }
            self._transport.start(Request(URL, body, headers), partial(self._answered, ticket))

    def _answered(self, ticket: bytes, _: PendingRequest, answer: Response | Exception) -> None:
        assert isinstance(answer, Response) and answer.status == 200, answer  # noqa: PT018
        self._done.append(ticket)
        self._held -= 1
        self._in_flight -= 1
        self._freed.set()
        self._finished.set()
        self.send()

    async def settle(self) -> None:
        while True:
            await self._finished.wait()
            await asyncio.sleep(LINGER)
            self._finished.clear()
            done, self._done = self._done, []
            await self._run(SETTLE, ["bodies", "leases", "control"], done)


async def main() -> None:
    async with Redis.from_url(os.environ["BENCH_REDIS"], protocol=2) as redis:
        await Lane(redis).run()


if __name__ == "__main__":
    uvloop.run(main())
