"""Calls of Apprise in a separate process, which can be killed if a call hangs.

Apprise blocks, and some of its conversions take minutes of CPU for a few kilobytes: a thread of this
process could not be ended, and would keep the process from its end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

import msgspec

from relay.errors import TransportError

from .apprise_child import Answer, Call, Start

START_TIMEOUT = 60.0
"""Seconds until a new process must be ready. It has to import Apprise."""

_LONGEST_LINE = 1 << 20
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy")


class AppriseProcess:
    """Starts a process at the first call, and replaces it after a call that took too long.

    The other calls of that process may end within their own timeouts before it is killed.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._current: asyncio.Task[_Child] | None = None
        self._retired: set[_Child] = set()

    async def call(self, call: Call) -> Answer:
        """Raises TransportError if no answer comes in time."""
        if self._current is None or (self._current.done() and self._is_unusable(self._current)):
            self._current = asyncio.create_task(_Child.open(self._start))
        starting = self._current
        child = await asyncio.shield(starting)
        try:
            async with asyncio.timeout(self._start.timeout):
                return await child.call(call)
        except TimeoutError:
            if self._current is starting:
                self._current = None
            self._retired.add(child)
            raise TransportError(f"no answer within {self._start.timeout:g} s") from None
        finally:
            if child in self._retired and not child.waiting:
                self._retired.discard(child)
                child.kill()

    async def close(self) -> None:
        for child in self._retired:
            child.kill()
        if self._current is not None:
            self._current.cancel()
            with suppress(asyncio.CancelledError, TransportError):
                (await self._current).kill()

    @staticmethod
    def _is_unusable(opened: asyncio.Task[_Child]) -> bool:
        return opened.cancelled() or opened.exception() is not None or opened.result().ended


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.waiting: dict[int, asyncio.Future[Answer]] = {}
        self.ended = False
        self._reader: asyncio.Task[None] = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, start: Start) -> _Child:
        """Raises TransportError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # modules in the current folder must not replace installed ones
            "-m",
            Start.__module__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C must not end calls that are in flight
        )
        child = cls(process)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await child._ask(0, msgspec.json.encode(start))
        except BaseException as error:
            child.kill()
            if isinstance(error, TimeoutError):
                raise TransportError(f"Apprise did not start within {START_TIMEOUT:g} s") from None
            raise
        return child

    async def call(self, call: Call) -> Answer:
        return await self._ask(call.number, msgspec.json.encode(call))

    async def _ask(self, number: int, line: bytes) -> Answer:
        assert self._process.stdin is not None
        if self.ended:
            raise TransportError("the Apprise process has ended")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting[number] = answered
        try:
            self._process.stdin.write(line + b"\n")
            return await answered
        finally:
            del self.waiting[number]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                answer = msgspec.json.decode(line, type=Answer)
                waiting = self.waiting.get(answer.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        finally:
            self.ended = True
            for waiting in self.waiting.values():
                if not waiting.done():
                    waiting.set_exception(TransportError("the Apprise process has ended"))
            await self._process.wait()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


def _environment() -> dict[str, str]:
    """Our environment without variables that make `requests` use a proxy or credentials of the host."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
    return {**kept, "NO_PROXY": "*", "NETRC": os.devnull}
