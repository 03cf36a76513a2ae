"""Commands in the process of the test, because a process for each would cost seconds."""

from __future__ import annotations

import asyncio

from typer.testing import CliRunner, Result

from relay.cli.app import app
from relay.errors import RelayError


async def run_command(*words: str) -> Result:
    """Run a command as `relay WORDS` does. The result holds its output, exit code and exception."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(words))


async def output(*words: str) -> str:
    """Standard output of a command that must succeed."""
    result = await run_command(*words)
    assert result.exit_code == 0, (result.exception, result.stderr)
    return result.stdout


async def failure(*words: str) -> str:
    """The error of a command that must fail."""
    result = await run_command(*words)
    assert isinstance(result.exception, RelayError), result.output
    return str(result.exception)
