"""The Lua scripts, read once per process and run by their digest."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Argument, Client, describe, execute, raise_if_cancelled
from relay.redis_client.topology import is_cluster
from relay.store.script_text import FOLDER, FOR_LANES, TWO_FORMS, read_script


class Call(msgspec.Struct, frozen=True):
    """The keys and arguments of a script."""

    keys: Sequence[str]
    arguments: Sequence[Argument]


class Script:
    """One script. If Redis does not have it, after SCRIPT FLUSH or a failover, the text is sent again."""

    def __init__(self, name: str) -> None:
        self.name = name
        assembled = read_script(name)
        self.text = assembled.text
        self.lane_parts = assembled.lane_parts
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self._sending: dict[Client, asyncio.Event] = {}
        """Set when the text has been sent, by client."""

    def command(self, keys: Sequence[str], *arguments: Argument) -> tuple[Argument, ...]:
        """Return the words of the command that runs the script, if Redis has it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    async def run(self, client: Client, keys: Sequence[str], *arguments: Argument) -> Any:
        """Return the reply. Raises StoreError; in that case the script may or may not have run."""
        reply, _ = await self.run_in_turn(client, keys, *arguments)
        return reply

    async def run_in_turn(
        self, client: Client, keys: Sequence[str], *arguments: Argument
    ) -> tuple[Any, bool]:
        """Return the reply, and whether the script ran before all commands that were sent later.

        It did not in a cluster, or if Redis needed the text first. Raises StoreError.
        """
        in_turn = not is_cluster(client)
        try:
            try:
                reply = await execute(client, *self.command(keys, *arguments))
            except NoScriptError:
                in_turn = False
                reply = await self._run_missing(client, keys, arguments)
        except REDIS_ERRORS as error:
            raise StoreError(f"{self.name}: {describe(error)}") from error
        raise_if_cancelled()
        return reply, in_turn

    async def _run_missing(self, client: Client, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run the script by its text. Other runs wait meanwhile: the text for each of a thousand lanes would
        take some hundred megabytes."""
        sending = None if is_cluster(client) else self._sending.get(client)
        if sending is not None:
            await sending.wait()
            with suppress(NoScriptError):
                return await execute(client, *self.command(keys, *arguments))
        sent = self._sending[client] = asyncio.Event()
        try:
            return await execute(client, "EVAL", self.text, len(keys), *keys, *arguments)
        finally:
            sent.set()
            self._sending.pop(client, None)


@cache
def script(name: str) -> Script:
    """Return the script of this name."""
    return Script(name)


def load_scripts() -> None:
    """Read all scripts, so that a running worker keeps its own if the package is replaced."""
    for path in FOLDER.iterdir():
        name, _, suffix = path.name.rpartition(".")
        if suffix == "lua":
            script(name)
    for name in TWO_FORMS:
        script(f"{name}:groups")
    for name in FOR_LANES:
        script(f"{name}:lanes")
