"""Two ways to deliver a message by an adapter, which have to end alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from relay.engine.adapter_calls import AdapterCalls
from relay.message import Message
from relay.outcome import Outcome
from relay.provider import Provider

Delivery = Callable[[Provider[Any], Message], Awaitable[Outcome]]


async def by_coroutine(provider: Provider[Any], message: Message) -> Outcome:
    """Call `deliver`."""
    (outcome,) = await provider.deliver([message])
    return outcome


async def by_engine(provider: Provider[Any], message: Message) -> Outcome:
    """Deliver as the engine does: by callbacks, if the adapter supports it."""
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    AdapterCalls(provider).start([message], lambda outcomes, *_: ended.set_result(outcomes[0]))
    return await ended


DELIVERIES: tuple[Delivery, ...] = (by_coroutine, by_engine)
