"""Faults of other programs that write to the same Redis."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from redis.exceptions import RedisError, ResponseError

from chaos.configuration import PREFIX
from chaos.faults.base import Fault, Skipped
from chaos.topology import direct
from relay.store.keys import LANE_PARTS, LaneKeys

GIANT = 100_000_000
"""Bytes of one element."""


class WrongTypeKey(Fault):
    """Another program replaces one of a lane's keys by a string. The original key is restored later."""

    async def start(self) -> None:
        part = random.Random(self.planned.amount).choice([*LANE_PARTS])
        self._key = LaneKeys.of(PREFIX, self.planned.target).part(part)
        self._aside = f"{self._key}:moved"
        self.note = part
        async with direct(self.harness.topology.node_for(self._key)) as client:
            try:
                async with client.pipeline(transaction=True) as pipe:
                    if await client.exists(self._key):
                        pipe.rename(self._key, self._aside)
                    pipe.set(self._key, "not relay's")
                    await pipe.execute()
            except (RedisError, OSError) as error:
                raise Skipped(str(error)) from error

    async def stop(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                async with direct(self.harness.topology.node_for(self._key)) as client:
                    if await client.exists(self._aside):
                        await client.rename(self._aside, self._key)
                    elif await client.type(self._key) == b"string":
                        await client.delete(self._key)
                    return
            await asyncio.sleep(0.1)  # Redis may be failing at the moment


class GiantElement(Fault):
    """An element of 100 MB on a queue whose limit is a few KiB."""

    async def start(self) -> None:
        async with direct(self.harness.topology.node_for("notifications")) as client:
            try:
                await client.rpush("notifications", b'{"payload": {"x": "' + b"x" * GIANT + b'"}}')
            except ResponseError as error:
                self.note = f"refused: {error}"
            except (RedisError, OSError, TimeoutError):
                self.harness.unsure_giants += 1
            else:
                self.harness.giants += 1


NEIGHBOURS: dict[str, type[Fault]] = {"wrong-type key": WrongTypeKey, "100 MB element": GiantElement}
