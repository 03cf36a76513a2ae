"""The place of one test: a folder with a file, a Redis, a receiver, and relay's commands on that file."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import Finished, Worker, installed_worker, relay, worker, write_config
from testing.streams import entries_of

PUSHER = {"type": "pusher", "app_id": "3", "key": "278d425bdf160c739803", "secret": "7ad3773142a6692b25b8"}
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def webhook(receiver: Receiver, **fields: Any) -> dict[str, Any]:
    """A webhook provider that posts to the receiver."""
    return {"type": "webhook", "url": f"{receiver.url}/hook", "secret": WEBHOOK_SECRET, **fields}


def pusher(receiver: Receiver, **fields: Any) -> dict[str, Any]:
    """A Pusher provider whose server is the receiver."""
    return {**PUSHER, "url": receiver.url, **fields}


@dataclass
class Site:
    """`config` is the path of the file that `configure` writes."""

    folder: Path
    server: RedisServer
    redis: Redis
    receiver: Receiver

    @property
    def config(self) -> Path:
        return self.folder / "relay.yaml"

    def configure(self, providers: dict[str, Any], queues: list[Any] | None = None, **rest: Any) -> Path:
        return write_config(self.folder, self.server.url, providers, queues, **rest)

    def webhook(self, **fields: Any) -> dict[str, Any]:
        return webhook(self.receiver, **fields)

    def pusher(self, **fields: Any) -> dict[str, Any]:
        return pusher(self.receiver, **fields)

    async def relay(
        self, *words: str, stdin: bytes | None = None, cwd: Path | None = None, **env: str
    ) -> Finished:
        """Run a command to its end."""
        return await relay(*words, "-c", str(self.config), stdin=stdin, cwd=cwd, **env)

    async def json(self, *words: str, **options: Any) -> Any:
        """The output of a command, as data."""
        return (await self.relay(*words, "--json", **options)).json

    async def drain(self, **options: Any) -> Finished:
        """Run a worker until nothing is left."""
        finished = await self.relay("run", "--until-empty", **options)
        assert finished.code == 0, finished.err
        return finished

    async def push(self, *elements: object) -> None:
        """Push messages, or elements that are text or bytes already."""
        texts = [each if isinstance(each, str | bytes) else json.dumps(each) for each in elements]
        await self.redis.rpush("notifications", *texts)

    async def receipts(self, number: int = 0, key: str = "receipts:1") -> list[dict[str, Any]]:
        """Wait for this number of receipts, and return all of them."""
        async with asyncio.timeout(120):
            while await self.redis.llen(key) < number:
                await asyncio.sleep(0.02)
        return [json.loads(text) for text in await self.redis.lrange(key, 0, -1)]

    async def feedback(self) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in await entries_of(self.redis, "relay:feedback")]

    async def receipt(self, key: str) -> dict[str, Any]:
        """Wait for the next receipt of a list."""
        popped: Any = await self.redis.blpop([key], 120)
        receipt: dict[str, Any] = json.loads(popped[1])
        return receipt

    def worker(self, *words: str, **options: Any) -> AbstractAsyncContextManager[Worker]:
        return worker(self.config, *words, **options)

    def installed_worker(self, *words: str) -> AbstractAsyncContextManager[Worker]:
        """A worker whose memory is measured."""
        return installed_worker(self.config, *words)
