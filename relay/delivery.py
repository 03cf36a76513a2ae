"""One call of an adapter. Whatever it does, each message has an outcome afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from relay.deadlines import Deadlines
from relay.errors import TransportError
from relay.http.transport import Unsendable
from relay.message import Message
from relay.outcome import Outcome, Rejected, Retry
from relay.provider import Provider
from relay.settings.provider import ProviderOptions

LATE = 1.0
"""Seconds that a delivery may take beyond its time-out before it is cut off from outside."""


class Delivery:
    """The deliveries of one provider."""

    def __init__(self, provider: Provider[ProviderOptions], log: Any) -> None:
        """`log`: a bound logger, for what an adapter does wrong."""
        self._provider = provider
        self._timeout = provider.options.timeout
        self._deadlines = Deadlines(self._timeout + LATE)
        self._log = log

    def refusal(self, message: Message) -> Rejected | None:
        """Why the message can never be sent."""
        try:
            return self._provider.check(message)
        except Exception as error:
            self._log.exception("the adapter failed on a message", id=message.id)
            return Rejected(f"the adapter failed on it: {error!r}")

    async def deliver(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """How each of them ended, in their order. Raises nothing but CancelledError."""
        task = self._deadlines.begin()
        try:
            outcomes = await self._provider.deliver(messages)
        except asyncio.CancelledError:
            if not self._deadlines.end(task):
                raise
            return [Retry(f"no answer within {self._timeout:g} s")] * len(messages)
        except Unsendable as error:
            outcomes = [Rejected(str(error))] * len(messages)
        except TransportError as error:
            outcomes = [Retry(str(error))] * len(messages)
        except Exception as error:
            self._log.exception("the adapter failed", ids=[message.id for message in messages])
            outcomes = [Retry(f"the adapter failed: {error!r}")] * len(messages)
        self._deadlines.end(task)
        if len(outcomes) != len(messages):
            self._log.error("the adapter lost count", expected=len(messages), got=len(outcomes))
            return [Retry("the adapter did not say how each message ended")] * len(messages)
        return outcomes
