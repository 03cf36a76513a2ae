"""A running sandbox, and requests to it over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout
from standardwebhooks import Webhook

from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox


class User:
    """A client of a sandbox. Answers are (status, headers, text)."""

    def __init__(self, sandbox: Sandbox, session: ClientSession) -> None:
        self.sandbox, self.session = sandbox, session

    def signed(self, body: str, message_id: str = "msg_1", moment: datetime | None = None) -> dict[str, str]:
        """The headers of the official library."""
        moment = moment or datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": Webhook(self.sandbox.options.webhook_secret).sign(message_id, moment, body),
        }

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Mapping[str, str], str]:
        async with self.session.request(method, self.sandbox.url + path, **options) as answer:
            return answer.status, answer.headers, await answer.text()

    async def hook(
        self, path: str = "/webhook", message_id: str = "msg_1", body: str = "{}", seconds: float = 30
    ) -> tuple[int, Mapping[str, str], str]:
        """One webhook, correctly signed."""
        headers = self.signed(body, message_id)
        return await self.ask("POST", path, data=body, headers=headers, timeout=ClientTimeout(seconds))

    async def hooks(self, number: int, path: str = "/webhook") -> list[int]:
        """The statuses of `number` webhooks, one after the other."""
        return [(await self.hook(path))[0] for _ in range(number)]

    async def order(self, **faults: Any) -> int:
        """The status of an order of faults."""
        return (await self.ask("POST", "/_sandbox/faults", json=faults))[0]

    async def get(self, path: str) -> Any:
        async with self.session.get(self.sandbox.url + path) as answer:
            assert answer.status == 200
            return await answer.json()


@pytest.fixture
def lines() -> list[str]:
    """The lines that the sandbox prints."""
    return []


@pytest.fixture
async def sandbox(lines: list[str]) -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(seed=1), on_request=lines.append) as running:
        yield running


@pytest.fixture
async def user(sandbox: Sandbox) -> AsyncIterator[User]:
    async with ClientSession() as session:
        yield User(sandbox, session)
