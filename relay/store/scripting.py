"""The Lua scripts beside this module, loaded once and run by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from redis.exceptions import NoScriptError

from relay.errors import StoreError
from relay.redis_client.client import TROUBLE, Argument, Client, ask, describe, heed_cancellation
from relay.redis_client.topology import is_cluster
from relay.store.script_text import FOLDER, read_script


class Script:
    """One script. Survives SCRIPT FLUSH and a failover: Redis gets the text again when it asks."""

    def __init__(self, name: str) -> None:
        self.name = name
        assembled = read_script(name)
        self.text = assembled.text
        self.lane_parts = assembled.lane_parts
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Client, keys: Sequence[str], *arguments: Argument) -> Any:
        """The reply. Raises StoreError; the script may or may not have run in that case."""
        reply, _ = await self.run_in_turn(client, keys, *arguments)
        return reply

    async def run_in_turn(
        self, client: Client, keys: Sequence[str], *arguments: Argument
    ) -> tuple[Any, bool]:
        """The reply, and whether the script ran before all that was asked later.

        Not in a cluster, and not where Redis had to be given the text first. Raises StoreError.
        """
        in_turn = not is_cluster(client)
        try:
            try:
                reply = await ask(client, "EVALSHA", self.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                in_turn = False
                reply = await ask(client, "EVAL", self.text, len(keys), *keys, *arguments)
        except TROUBLE as error:
            raise StoreError(f"{self.name}: {describe(error)}") from error
        heed_cancellation()
        return reply, in_turn


@cache
def script(name: str) -> Script:
    """The script of that name, read once a process."""
    return Script(name)


def load_scripts() -> None:
    """Read all scripts into memory: a worker goes on with its own when the package is replaced."""
    for path in FOLDER.iterdir():
        name, _, suffix = path.name.rpartition(".")
        if suffix == "lua":
            script(name)
