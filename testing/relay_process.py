"""The installed `relay` command as a process, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from testing import prefork

RELAY = str(Path(sys.executable).parent / "relay")


@dataclass(frozen=True)
class Finished:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**extra: str) -> dict[str, str]:
    """Return our environment, without variables that change relay's behaviour or from test to test."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RELAY_", "PYTHONDONTWRITE", "PYTEST_CURRENT"))
    }
    return {**clean, **extra}


@cache
def _prefork() -> prefork.Prefork:
    return prefork.Prefork(environment())


async def relay(*words: str, stdin: bytes | None = None, cwd: Path | None = None, **env: str) -> Finished:
    """Run a command to its end."""
    if prefork.suits(words, stdin) and (fork := _prefork()).environment == environment(**env):
        async with asyncio.timeout(120):
            code, output, errors = await fork.run(words, stdin, cwd)
        return Finished(code, output.decode(), errors.decode())
    process = await asyncio.create_subprocess_exec(
        RELAY,
        *words,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=environment(**env),
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate(stdin)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return Finished(process.returncode or 0, out.decode(), err.decode())


async def short_command(
    *words: str, stdin: bytes | None, cwd: Path, variables: Mapping[str, str]
) -> Finished:
    """Run a command that reads the variables after its start, in a process that has its imports already."""
    async with asyncio.timeout(120):
        code, out, err = await _prefork().run(words, stdin, cwd, variables)
    return Finished(code, out.decode(), err.decode())


class Worker:
    """A running `relay run`. Its log lines are read as they come."""

    def __init__(self, process: asyncio.subprocess.Process | prefork.Forked) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._heard = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"event": line.decode(errors="replace").rstrip()}
            async with self._heard:
                self.lines.append(entry)
                self._heard.notify_all()
        async with self._heard:
            self._heard.notify_all()

    async def says(self, event: str, times: int = 1, seconds: float = 120, **fields: str) -> dict[str, Any]:
        """Wait for a log line whose event and fields contain these texts. Returns the last such line."""
        wanted = {"event": event, **fields}

        def heard() -> list[dict[str, Any]]:
            return [
                line
                for line in self.lines
                if all(text in str(line.get(name)) for name, text in wanted.items())
            ]

        try:
            async with asyncio.timeout(seconds), self._heard:
                await self._heard.wait_for(lambda: len(heard()) >= times or self._reader.done())
        except TimeoutError:
            raise AssertionError(f"{event!r} was never logged, but {self.lines}") from None
        assert len(heard()) >= times, f"{event!r} was never logged, but {self.lines}"
        return heard()[-1]

    def signal(self, number: int) -> None:
        # Process.send_signal() polls first, which can take the exit code away from asyncio's watcher.
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def ended(self, seconds: float = 120) -> int:
        """Return the exit code when the process has ended."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reader
        return code


@asynccontextmanager
async def worker(
    config: Path,
    *words: str,
    ready: str = "ready",
    limits: Mapping[int, tuple[int, int]] | None = None,
    variables: Mapping[str, str] | None = None,
    **env: str,
) -> AsyncIterator[Worker]:
    """Run a worker, and yield it when it has logged `ready`. At the end it gets SIGTERM, and SIGKILL if it
    does not stop.

    `limits` maps numbers to soft and hard limits of `resource.setrlimit`. `variables` and `env` are variables
    of the environment. A worker without them has its imports already: see `testing.prefork`.
    """
    changed = environment(**env, **(variables or {}))
    process: asyncio.subprocess.Process | prefork.Forked
    if not limits and (fork := _prefork()).environment == changed:
        process = await fork.spawn(("run", "-c", str(config), *words))
    else:
        process = await _installed(config, words, limits or {}, changed)
    async with _running(process, ready) as running:
        yield running


@asynccontextmanager
async def installed_worker(config: Path, *words: str, ready: str = "ready") -> AsyncIterator[Worker]:
    """Run a worker whose memory is all its own."""
    async with _running(await _installed(config, words, {}, environment()), ready) as running:
        yield running


async def _installed(
    config: Path, words: Sequence[str], limits: Mapping[int, tuple[int, int]], variables: dict[str, str]
) -> asyncio.subprocess.Process:
    def set_limits() -> None:
        for number, pair in limits.items():
            resource.setrlimit(number, pair)

    return await asyncio.create_subprocess_exec(
        RELAY,
        "run",
        "-c",
        str(config),
        *words,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=variables,
        preexec_fn=set_limits if limits else None,
        limit=prefork.LONGEST_LINE,
    )


@asynccontextmanager
async def _running(process: asyncio.subprocess.Process | prefork.Forked, ready: str) -> AsyncIterator[Worker]:
    running = Worker(process)
    try:
        await running.says(ready)
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await running.ended()
            except TimeoutError:
                process.kill()
                await process.wait()


def limit_memory(pid: int, room: int) -> None:
    """Let a process grow by `room` bytes from now on."""
    status = Path(f"/proc/{pid}/status").read_text()
    size = int(status.partition("VmSize:")[2].split()[0]) * 1024
    resource.prlimit(pid, resource.RLIMIT_AS, (size + room, size + room))


def write_config(
    folder: Path, redis_url: str, providers: dict[str, Any], queues: list[Any] | None = None, **rest: Any
) -> Path:
    """Write a configuration file with one process, no admin server, and the parts that the test passes.

    The default queue is for the first provider. Everything else has relay's own defaults.
    """
    document = {
        "redis": {"url": redis_url},
        "queues": queues or [{"name": "notifications", "provider": next(iter(providers))}],
        "providers": providers,
        "processes": 1,
        "admin": {"listen": ""},
        **rest,
    }
    path = folder / "relay.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
