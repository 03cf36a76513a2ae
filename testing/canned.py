"""A transport without sockets, for tests of adapters that choose the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay import tasks
from relay.http.request import Request, Response
from relay.http.transport import OnDone, PendingRequest, Transport

Answer = Response | Exception


class Canned(Transport):
    """Gives one answer, or raises it; a function decides by the request. `requests` notes them all."""

    def __init__(self, answer: Answer | Callable[[Request], Answer]) -> None:
        self._answer = answer
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        found = self._answer(request) if callable(self._answer) else self._answer
        if isinstance(found, Exception):
            raise found
        return found

    def start(self, request: Request, on_done: OnDone) -> PendingRequest:
        return tasks.start(self.send(request), on_done)

    async def close(self) -> None:
        pass
