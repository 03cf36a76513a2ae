"""A settable Redis clock: the scripts read it from a key instead of TIME."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from relay.redis_client.client import Client
from testing.script_text import changed_script

KEY = "test:clock:{test}"
"""A key in the slot of the lane `test`, so that scripts on a cluster may read it."""

SCRIPTS = (
    "enqueue",
    "claim",
    "claim_large",
    "reserve",
    "expand",
    "settle",
    "release",
    "cancel",
    "revive",
    "resume",
    "pause_group",
    "resume_group",
)


@contextmanager
def settable_clock() -> Iterator[None]:
    """Inside, every lane script takes the time from the list `KEY`: seconds, microseconds."""
    with ExitStack() as stack:
        for name in SCRIPTS:
            stack.enter_context(changed_script(name, "call('TIME')", f"call('LRANGE', '{KEY}', 0, 1)"))
        yield


async def set_clock(redis: Client, seconds: int, micros: int = 0) -> None:
    """Set the clock."""
    await redis.delete(KEY)
    await redis.rpush(KEY, seconds, micros)
