"""An adapter without sockets: it records its messages and returns the outcomes that a test sets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence

from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected
from relay.provider import Provider
from relay.settings.options import ProviderOptions

Answer = Outcome | BaseException


class FakeProvider(Provider[ProviderOptions]):
    """Delivers everything, unless `answers` holds something else or `gate` is closed."""

    def __init__(self, options: ProviderOptions, *, batch_size: int = 1) -> None:
        super().__init__("test", options)
        self.batch_size = batch_size
        self.batches: list[list[Message]] = []
        self.answers: deque[Answer | list[Outcome]] = deque()
        self.gate = asyncio.Event()
        self.gate.set()
        self.in_flight = 0
        self.most_in_flight = 0
        self.refuse: Callable[[Message], Rejected | None] = lambda message: None
        self.group_by: Callable[[Message], Hashable] = lambda message: "all"
        self._changed = asyncio.Condition()

    @property
    def messages(self) -> list[str]:
        """Return the texts of the delivered messages, in order of arrival."""
        return [message.payload["text"] for batch in self.batches for message in batch]

    def check(self, message: Message) -> Rejected | None:
        return self.refuse(message)

    def group(self, message: Message) -> Hashable:
        return self.group_by(message)

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.batches.append(list(batch))
        async with self._changed:
            self._changed.notify_all()
        try:
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        answer = self.answers.popleft() if self.answers else Delivered()
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, list) else [answer] * len(batch)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds. It is checked after each arrival."""
        async with asyncio.timeout(120), self._changed:
            await self._changed.wait_for(condition)
