"""The demo: an embedded Redis, the sandbox, a worker and a few producers in one process.

It shows the point of relay. When the worker starts, thousands of messages are waiting, as after a weekend
without a worker. They are sent at the configured rate and no faster, while new messages keep arriving.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from relay.admin.health import WorkerReport
from relay.admin.host import Host
from relay.admin.server import Admin
from relay.engine.configured_intake import ConfiguredIntake
from relay.engine.worker import Worker
from relay.provider import Provider
from relay.redis_client.client import Client
from relay.redis_client.connect import connect
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.settings.load import loads
from relay.settings.models import AdminSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store.deployment import Deployment
from relay.store.overview import Overview, read_overview
from relay.store.queue import push_all

RATES = {"pusher": 500, "webhook": 50}
"""The rate of each provider, in messages per second."""

BACKLOG = {"pusher": 5000, "webhook": 500}
"""Messages that are waiting when the worker starts."""

TRAFFIC = {"pusher": 40, "webhook": 4}
"""The mean rate of the producers, in messages per second."""

QUEUES = {"pusher": "hits", "webhook": "orders"}


@dataclass(frozen=True, slots=True)
class Moment:
    """One state for the view, by provider: totals `pushed` and `accepted`; messages per second in the last
    minute (`history`), and in the `busiest` second."""

    seconds: float
    pushed: Mapping[str, int]
    accepted: Mapping[str, int]
    history: Mapping[str, list[int]]
    busiest: Mapping[str, int]
    overview: Overview


class Demo:
    """The running demo, inside `running()`."""

    def __init__(self, settings: Settings, sandbox: Sandbox, client: Client) -> None:
        self.settings = settings
        self.sandbox = sandbox
        self.console = ""
        """URL of the console."""
        self.worker: Worker | None = None
        """The present worker."""
        self.pushed = dict.fromkeys(QUEUES, 0)
        self._client = client
        self._started = asyncio.get_running_loop().time()

    async def moment(self) -> Moment:
        """Return the current state."""
        request_log = self.sandbox.request_log
        return Moment(
            seconds=asyncio.get_running_loop().time() - self._started,
            pushed=dict(self.pushed),
            accepted={provider: request_log.accepted(provider) for provider in QUEUES},
            history={provider: request_log.history(provider) for provider in QUEUES},
            busiest={provider: request_log.busiest(provider) for provider in QUEUES},
            overview=await read_overview(self._client, self.settings),
        )

    async def push_backlog(self) -> None:
        """Push the messages that accumulated while no worker ran."""
        for provider, number in BACKLOG.items():
            elements = [_element(provider, count) for count in range(number)]
            for start in range(0, number, 500):
                await push_all(self._client, QUEUES[provider], elements[start : start + 500])
            self.pushed[provider] = number

    async def produce(self, provider: str) -> None:
        """Push a few messages at irregular times until cancelled."""
        chance = random.Random(provider)  # noqa: S311 - traffic, not secrets
        for number in itertools.count(BACKLOG[provider]):
            await asyncio.sleep(chance.expovariate(TRAFFIC[provider]))
            await push_all(self._client, QUEUES[provider], [_element(provider, number)])
            self.pushed[provider] += 1


@asynccontextmanager
async def running(adapters: Mapping[str, type[Provider[ProviderOptions]]]) -> AsyncIterator[Demo]:
    """Run a demo. At the end, stop and clean up everything."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-"))
        sandbox = await stack.enter_async_context(Sandbox(SandboxOptions()))
        settings = _settings(folder, sandbox, adapters)
        client = await stack.enter_async_context(connect(settings.redis.url.get_secret_value()))
        demo = Demo(settings, sandbox, client)
        await demo.push_backlog()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            demo.worker = Worker(settings, adapters, client)
            worker = group.create_task(_work(demo, adapters, client, stop))
            served = _console(demo, client)
            await served.prepare()
            console = group.create_task(served.run())
            producers = [group.create_task(demo.produce(provider)) for provider in QUEUES]
            try:
                yield demo
            finally:
                for task in (*producers, console):
                    task.cancel()
                stop.set()
                await asyncio.wait([worker])


async def _work(
    demo: Demo, adapters: Mapping[str, type[Provider[ProviderOptions]]], client: Client, stop: asyncio.Event
) -> None:
    """Run the worker; another one if it was drained in the console and may work again."""
    assert demo.worker is not None
    while await demo.worker.run(stop) == "resumed":
        demo.worker = Worker(demo.settings, adapters, client)


def _console(demo: Demo, client: Client) -> Admin:
    """Return the console of the demo, which listens on a free port."""

    async def connected() -> Client:
        return client

    def host() -> Host:
        assert demo.worker is not None
        health = demo.worker.health()
        return Host(Deployment(), [WorkerReport(pid=health.pid, age=0.0, health=health)])

    admin_settings = AdminSettings(listen="127.0.0.1:0", environment="demo")
    settings = demo.settings.model_copy(update={"admin": admin_settings})
    admin = Admin(settings, connected, host, partial(ConfiguredIntake, settings=settings))
    admin.open()
    demo.console = admin.url
    return admin


def _settings(
    folder: str, sandbox: Sandbox, adapters: Mapping[str, type[Provider[ProviderOptions]]]
) -> Settings:
    options = sandbox.options
    document = {
        "redis": {"url": f"embedded://{folder}"},
        "queues": [
            {"name": QUEUES["pusher"], "provider": "pusher", "format": "bare"},
            {"name": QUEUES["webhook"], "provider": "webhook"},
        ],
        "providers": {
            "pusher": {
                "type": "pusher",
                "app_id": options.app_id,
                "key": options.key,
                "secret": options.secret,
                "url": sandbox.url,
                "event": "hit",
                "rate": f"{RATES['pusher']}/s",
            },
            "webhook": {
                "type": "webhook",
                "url": f"{sandbox.url}/webhook/orders",
                "secret": options.webhook_secret,
                "rate": f"{RATES['webhook']}/s",
            },
        },
        "shutdown_timeout": "3s",
        "admin": {"listen": ""},
    }
    text = yaml.safe_dump(document)
    return loads(
        text, Path(folder) / "demo.yaml", {name: adapter.Options for name, adapter in adapters.items()}
    )


def _element(provider: str, number: int) -> bytes:
    if provider == "pusher":
        return json.dumps({"channel": f"site-{number % 20}", "hits": number, "path": "/"}).encode()
    return json.dumps({"payload": {"body": {"type": "order.paid", "data": {"order": number}}}}).encode()
