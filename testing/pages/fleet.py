"""The fleet of the pages: a Redis, the providers' emulators, and one worker, which reads its file again for
each page."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientSession
from redis.asyncio import Redis

from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.settings.durations import parse_duration
from relay.settings.models import Settings
from testing.pages.blocks import blocks, pages
from testing.ports import free_port
from testing.receiver import Answer, Received, Receiver, receiving
from testing.redis_server import BLOCKING_TIMEOUT, RedisServer
from testing.relay_process import Finished, Worker, short_command, worker

Document = dict[str, Any]

PATIENCE = 120
"""Seconds until something that never happens is a failure."""

SECRET = "whsec_cmVsYXktc2FuZGJveC13ZWJob29rLXNlY3JldC1rZXk="
FORMS = {
    "RELAY_ADMIN_TOKEN": "a-long-token-of-an-operator-0123",
    "RELAY_VIEWER_TOKEN": "a-long-token-of-a-viewer-01234567",
    "WEBHOOK_SECRET": SECRET,
}
"""Values of the pages' variables that must have a form. Others are `value`."""

OTHER_HOSTS = re.compile(r"https?://(?!127\.0\.0\.1)[\w.-]+")
ANSWER = {"ok": True, "access_token": "token", "token_type": "Bearer", "expires_in": 3600}
"""Of every API and token endpoint of the pages."""

ACCOUNT = ("app_id", "cluster", "key", "secret", "key_file", "key_id", "team_id", "environment")
"""Options that name a real account, which those of the sandbox replace."""

TROUBLE = {
    "groups": {"by": "message"},
    "breaker": {"failures": 3, "cooldown": "1h"},
    "retry": {"base": "100ms"},
}
"""Options of a provider that holds soon, and until somebody acts."""


@dataclass
class Fleet:
    """`document` is the configuration in force."""

    folder: Path
    server: RedisServer
    redis: Redis
    receiver: Receiver
    sandbox: Sandbox
    variables: dict[str, str]
    admin_port: int
    document: Document = field(default_factory=dict)
    worker: Worker | None = None

    @property
    def config(self) -> Path:
        return self.folder / "relay.yaml"

    def standard(self) -> Document:
        """Return the configuration of pages that have none: a provider of each type, and one queue."""
        emulated = self._emulated()
        return {
            "redis": {"url": self.server.url},
            "queues": [{"name": "notifications", "provider": "pusher", "providers": "*"}],
            "providers": {
                **{name: emulated[name] for name in ("pusher", "fcm", "apns", "webpush")},
                "customers": {"type": "webhook", "allow_private": True},
                "hooks": {"type": "webhook", "url": f"{self.receiver.url}/hook", **TROUBLE},
            },
            "admin": {"listen": f"127.0.0.1:{self.admin_port}", "token": "${RELAY_ADMIN_TOKEN}"},
            "processes": 1,
        }

    async def use(self, part: Document) -> None:
        """Bring a part of a configuration into force, over the one that is."""
        if not part.keys() <= Settings.model_fields.keys():  # providers alone, by name
            part = {"providers": part}
        changed = {**self.document, **part}
        for name, options in part.get("providers", {}).items():
            self.document["providers"][name] = self._connected(options)
        names = {queue["name"] for queue in part.get("queues", [])}
        others = [queue for queue in self.document["queues"] if queue["name"] not in names]
        changed["queues"] = [*part.get("queues", []), *others]
        changed |= {name: self.document[name] for name in ("providers", "redis")}
        if "admin" in part:
            changed["admin"] = {**part["admin"], "listen": f"127.0.0.1:{self.admin_port}"}
        await self.write(changed)

    async def write(self, document: Document) -> None:
        """Write the file, and let the worker read it."""
        self.document = document
        text = yaml.safe_dump(document, sort_keys=False)
        if self.config.exists() and self.config.read_text() == text:
            return
        self.config.write_text(text)
        if self.worker is not None:
            # A worker that still has the old file would refuse the page's messages.
            before = sum(line["event"] == "ready" for line in self.worker.lines)
            self.worker.signal(signal.SIGHUP)
            await self.worker.says("ready", times=before + 1, seconds=PATIENCE)

    async def deliver(self, element: str, provider: str | None = None) -> Document:
        """Push a message to the queue that takes it. Returns the receipt."""
        message = await self.connected_message(json.loads(element))
        if provider is not None:
            message["provider"] = provider
        queue = next(
            queue
            for queue in self.document["queues"]
            if queue.get("format") != "bare" and ("provider" in message or "provider" in queue)
        )
        message = {"reply_to": "receipts:pages", **message}
        await self.redis.rpush(queue["name"], json.dumps(message))
        found: Any = await self.redis.blpop([message["reply_to"]], PATIENCE)
        assert found, f"no receipt for {message}"
        receipt: Document = json.loads(found[1])
        return receipt

    async def connected_message(self, message: Document) -> Document:
        """Return the message for receivers on this machine, so old that its delay is over."""
        changed = {**message, "payload": {**message["payload"]}}
        for name in changed["payload"].keys() & {"url", "targets"}:
            changed["payload"][name] = self._reachable(changed["payload"][name])
        if "subscription" in changed["payload"]:
            changed["payload"]["subscription"] = await self.subscription()
        if "delay" in changed:
            changed["created_at"] = time.time() - parse_duration(changed["delay"])
        return changed

    async def subscription(self) -> Document:
        """Return the subscription of a browser at the sandbox."""
        async with ClientSession() as session:
            answered = await session.get(f"{self.sandbox.url}/_sandbox/subscriptions")
            found: Document = await answered.json()
            return found

    async def fail(self, provider: str, status: int, times: int) -> None:
        """Let the sandbox answer with this status, this number of times."""
        fault = {"provider": provider, "status": status, "times": times}
        async with ClientSession() as session:
            answered = await session.post(f"{self.sandbox.url}/_sandbox/faults", json=fault)
            assert answered.status == 200, await answered.text()

    async def push(self, *messages: Document) -> None:
        await self.redis.rpush("notifications", *map(json.dumps, messages))

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await asyncio.sleep(0.02)

    async def relay(self, *words: str, stdin: bytes | None = None) -> Finished:
        return await short_command(*words, stdin=stdin, cwd=self.folder, variables=self.variables)

    def _emulated(self) -> dict[str, Document]:
        found: dict[str, Document] = yaml.safe_load(self.sandbox.providers_yaml())["providers"]
        return found

    def _reachable(self, value: Any) -> Any:
        """Return the value with the receiver instead of other hosts."""
        return json.loads(OTHER_HOSTS.sub(self.receiver.url, json.dumps(value)))

    def _connected(self, options: Document) -> Document:
        """Return the options with the sandbox as the provider, and the receiver as every other host."""
        kind = options["type"]
        options = self._reachable(options)
        if kind in ("webhook", "http"):
            return {**options, "allow_private": True} if kind == "webhook" else options
        emulated = self._emulated().get(kind, {})
        kept = {name: value for name, value in options.items() if name not in ACCOUNT or not emulated}
        return {**kept, **emulated}


def variables(receiver: Receiver) -> dict[str, str]:
    """Return a value for each variable that the pages name."""
    named = {
        name
        for page in pages()
        for block in blocks(page)
        if block.language == "yaml"
        for name in re.findall(r"\$\{([A-Z_]+)[:}]", block.text)
    }
    urls = {name: f"{receiver.url}/hook" for name in named if name.endswith("_URL")}
    urls["OPS_URL"] = receiver.url.replace("http", "json", 1)
    return {**dict.fromkeys(named, "value"), **urls, **FORMS}


def answer(request: Received) -> Answer:
    status = int(request.query.get("status", 200))
    return Answer(status, json.dumps(ANSWER).encode(), {"content-type": "application/json"})


@asynccontextmanager
async def running_fleet(folder: Path, server: RedisServer) -> AsyncIterator[Fleet]:
    """Run a fleet with the standard configuration. Python finds packages in its folder `packages`."""
    async with (
        receiving() as receiver,
        Sandbox(SandboxOptions(seed=1, folder=folder / "sandbox")) as sandbox,
        Redis.from_url(server.url, socket_timeout=BLOCKING_TIMEOUT) as redis,
    ):
        await redis.flushall()
        receiver.answer = answer
        (folder / "admin-token").write_text(FORMS["RELAY_ADMIN_TOKEN"])
        (folder / "packages").mkdir()
        values = {
            **variables(receiver),
            "CREDENTIALS_DIRECTORY": str(folder),
            "PYTHONPATH": str(folder / "packages"),
            "COLUMNS": "200",
        }
        fleet = Fleet(folder, server, redis, receiver, sandbox, values, free_port())
        await fleet.write(fleet.standard())
        async with worker(fleet.config, variables=values) as running:
            fleet.worker = running
            yield fleet
