"""The command `relay sandbox` as a process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import yaml

from testing.relay_process import RELAY, environment


@asynccontextmanager
async def command(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Killed at the end, if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(RELAY, "sandbox", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(NO_COLOR="1"),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def started(process: asyncio.subprocess.Process) -> tuple[str, dict[str, Any]]:
    """The URL that a sandbox prints, and the providers of its block of YAML."""
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(120):
        while "subscription to push to" not in said:
            said += (await process.stderr.readline()).decode()
    found = re.search(r"http://[0-9.:]+", said)
    assert found is not None
    return found[0], yaml.safe_load(said[said.index("providers:") :])["providers"]
