"""A process that has imported `relay` and forks once for each command.

Imports are nine tenths of the time of a short command and most of the start of a worker, and the tests start
hundreds of both. A command that is started here is a process of its own, with its own arguments, folder and
standard streams; only its imports are older than itself. Tests that measure a process or change the variables
of its environment start the installed command instead.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import providers
import relay
from relay.__main__ import main

LONGEST_LINE = 1 << 20
"""Bytes of a line of the standard error of a worker."""

_LARGEST = 1 << 16
"""Bytes of a request, and of a pipe's buffer: longer input could block its writer."""


class Forked:
    """A command that was forked, with the attributes that tests use of an `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, stderr: asyncio.StreamReader, code: asyncio.Task[int]) -> None:
        self.pid = pid
        self.stderr = stderr
        self._code = code

    @property
    def returncode(self) -> int | None:
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and its exit code is on the way
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Prefork:
    """The process, seen from the tests."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        """The variables that every command sees."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "testing.prefork", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                cwd=Path(__file__).parents[1],
            )

    async def run(
        self,
        words: Sequence[str],
        stdin: bytes | None,
        cwd: Path | None,
        variables: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end, with these variables besides those of every command.

        Returns its exit code (-N: ended by signal N) and its output.
        """
        job = {"words": list(words), "cwd": str(cwd or Path.cwd()), "variables": dict(variables or {})}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            reader, transport = await _reading(self._start(job, stdin, out.fileno(), err.fileno()))
            try:
                pid = int(await reader.readline())
                try:
                    code = int(await reader.readline())
                except BaseException:
                    os.kill(pid, signal.SIGKILL)
                    raise
            finally:
                transport.close()
            out.seek(0)
            err.seek(0)
            return code, out.read(), err.read()

    async def spawn(self, words: Sequence[str]) -> Forked:
        """Start a command without input, whose standard error the test reads as it comes."""
        job = {"words": list(words), "cwd": str(Path.cwd()), "variables": {}}
        errors, errors_end = os.pipe()
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                report = self._start(job, None, nowhere, errors_end)
            finally:
                os.close(nowhere)
        finally:
            os.close(errors_end)
        stderr, _ = await _reading(os.fdopen(errors, "rb", buffering=0))
        reader, transport = await _reading(report)
        pid = int(await reader.readline())

        async def code() -> int:
            try:
                return int(await reader.readline())
            finally:
                transport.close()

        return Forked(pid, stderr, asyncio.create_task(code()))

    def _start(self, job: dict[str, Any], stdin: bytes | None, out: int, err: int) -> IO[bytes]:
        """Start a command. Returns a pipe with two lines: its process id, and its exit code at the end."""
        report, report_end = os.pipe()
        source, source_end = os.pipe()
        try:
            os.write(source_end, stdin or b"")
            socket.send_fds(self._socket, [json.dumps(job).encode()], [source, out, err, report_end])
        finally:
            for descriptor in (report_end, source, source_end):
                os.close(descriptor)
        return os.fdopen(report, "rb", buffering=0)


async def _reading(pipe: IO[bytes]) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    return reader, transport


def suits(words: Sequence[str], stdin: bytes | None) -> bool:
    """Return whether a command is short enough for this."""
    return len(stdin or b"") + sum(map(len, words)) < _LARGEST // 4


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns the job in the new process, and None when the tests have ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watchers end unseen
    while True:
        job, descriptors, _, _ = socket.recv_fds(requests, _LARGEST, 4)
        if not job:
            return None
        if os.fork() == 0:
            return _watch(json.loads(job), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(job: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Start the command, report its exit code, and end. Returns the job in the command's process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, report = descriptors
    if (pid := os.fork()) == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, max(descriptors) + 1)
        return job
    os.write(report, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _import_everything() -> None:
    for package in (relay, providers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", ".watch", ".watch_dialogs")):
                importlib.import_module(module.name)


def _command(requests: socket.socket) -> None:
    _import_everything()
    gc.freeze()  # no garbage collection writes to shared memory
    if (job := _serve(requests)) is None:
        return
    requests.detach()  # closed already
    os.chdir(job["cwd"])
    os.environ.update(job["variables"])
    sys.path += filter(None, job["variables"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [str(Path(sys.executable).parent / "relay"), *job["words"]]
    main()


if __name__ == "__main__":
    _command(socket.socket(fileno=int(sys.argv[1])))
