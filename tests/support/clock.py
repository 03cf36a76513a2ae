"""A Redis clock that tests set: the scripts read it from a key instead of asking TIME."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis

from relay.store.scripting import script

KEY = "test:clock:{test}"
"""In the slot of the lane `test`, which is where scripts on a cluster may look."""

SCRIPTS = ("enqueue", "claim", "expand", "settle", "release", "cancel", "revive")


@contextmanager
def settable_clock() -> Iterator[None]:
    """While inside, every lane script takes the time from the list `KEY`: seconds, microseconds."""
    originals = {}
    for name in SCRIPTS:
        loaded = script(name)
        originals[name] = (loaded.text, loaded.digest)
        assert "call('TIME')" in loaded.text
        loaded.text = loaded.text.replace("call('TIME')", f"call('LRANGE', '{KEY}', 0, 1)")
        loaded.digest = hashlib.sha1(loaded.text.encode(), usedforsecurity=False).hexdigest()
    try:
        yield
    finally:
        for name, (text, digest) in originals.items():
            script(name).text, script(name).digest = text, digest


async def set_clock(redis: Redis, seconds: int, micros: int = 0) -> None:
    """It is so late now."""
    await redis.delete(KEY)
    await redis.rpush(KEY, seconds, micros)
