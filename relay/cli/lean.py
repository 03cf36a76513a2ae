"""Continues a command in a fresh interpreter, for commands that must use little memory.

The command line and the configuration need typer, pydantic, YAML and the adapters: 25 MiB, which a process
keeps until it ends. So `relay dead` reads them, writes the few facts that it still needs into a memory file,
and replaces itself (`exec`) by an interpreter that imports Redis and none of those. Process id, terminal,
signals and exit code stay the same.
"""

from __future__ import annotations

import os
import sys
from typing import Literal, NoReturn

import msgspec

from relay.operations.dead_selection import DeadSelection
from relay.settings.outline import Outline

_PROGRAM = "from relay.__main__ import continue_lean; continue_lean()"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The command of `relay dead`, with its options."""

    action: Literal["list", "by-reason", "show", "retry", "purge", "edit", "export"]
    outline: Outline
    selection: DeadSelection
    as_json: bool = False
    dry_run: bool = False
    yes: bool = False
    because: str = ""
    low: bool = False
    rate: float = 0.0
    """Letters per second; 0: as fast as possible."""
    output: str = ""
    """The file of an export; empty: standard output."""
    messages: bool = False
    newest: bool = False


def hand_over(job: Job) -> NoReturn:
    """Replace this process by one that executes the job."""
    # Not as arguments or in the environment: the URL of Redis may contain a password, which `ps` would show.
    file = os.memfd_create("job", 0)
    with os.fdopen(file, "wb", closefd=False) as memory:
        memory.write(msgspec.msgpack.encode(job))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # -P: a module in the working directory must not be imported instead of a library. The words are for `ps`.
    words = (sys.executable, "-P", "-c", _PROGRAM, str(file), *sys.argv[1:])
    os.execv(sys.executable, words)  # noqa: S606 - our own words, no shell


def received() -> Job:
    """Read the job from the memory file whose descriptor is the first argument."""
    file = int(sys.argv[1])
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as memory:
        return msgspec.msgpack.decode(memory.read(), type=Job)
