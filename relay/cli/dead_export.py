"""`relay dead export`: writes dead letters to a file or to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from relay.cli import terminal
from relay.cli.dead_work import redis, scope
from relay.cli.lean import Job
from relay.errors import UsageError
from relay.operations.dead_export import Exported, ExportForm, export
from relay.text import printable_json


def export_letters(job: Job) -> None:
    """Write the selected letters, one per line."""
    with _file(job.output) if job.output else _standard_output() as write:
        exported = terminal.run(_export(job, write))
    left = f"; {exported.left} left out: malformed, and not one line of text" if exported.left else ""
    where = f" to {job.output}" if job.output else ""
    terminal.note(f"exported {exported.lines} dead letter{'' if exported.lines == 1 else 's'}{where}{left}")


async def _export(job: Job, write: Callable[[bytes], object]) -> Exported:
    async with redis(job.outline) as client:
        form: ExportForm = "messages" if job.messages else "letters"
        return await export(client, scope(job), job.selection, form, write)


@contextmanager
def _standard_output() -> Iterator[Callable[[bytes], object]]:
    if sys.stdout.isatty():
        yield lambda line: print(printable_json(line.decode("utf-8", "replace"), keep="\n"), end="")
    else:
        yield sys.stdout.buffer.write
    sys.stdout.flush()


@contextmanager
def _file(name: str) -> Iterator[Callable[[bytes], object]]:
    """Write a temporary file and rename it at the end, so that nobody sees a part of it."""
    path = Path(name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # For this user only: payloads may have secrets.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"--output: cannot write {name!r}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"--output: cannot write {name!r}: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
