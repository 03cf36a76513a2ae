"""`relay dead edit`: opens a dead letter in an editor and retries it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from relay.cli import terminal
from relay.cli.dead_work import confirmed, intake, redis, scope
from relay.cli.lean import Job
from relay.errors import MessageError, UsageError
from relay.operations.dead_documents import WHY_LEFT, result_document
from relay.operations.dead_edit import editable, read_letter, retry_edited
from relay.operations.dead_work import DeadResult
from relay.operations.who import operator
from relay.store.dead import DeadLetter

EDITOR = "vi"
"""The editor if the environment names none."""


def edit(job: Job) -> None:
    """Edit the letter until its text is valid, and retry it."""
    letter = terminal.run(_read(job))
    before = editable(letter)
    with TemporaryDirectory(prefix="relay-edit-") as folder:
        # The folder is for this user only: payloads may have secrets.
        file = Path(folder) / ("element.txt" if letter.message is None else "payload.json")
        file.write_bytes(before)
        while True:
            _open_editor(file)
            text = file.read_bytes()
            if text.strip() == before.strip():
                _report(job, DeadResult(matched=1), "unchanged; the dead letter stays as it is")
                return
            try:
                result = terminal.run(_retry(job, letter, text))
                break
            except MessageError as error:
                _reopen_or_end(error)
    left = "".join(f"not retried: {WHY_LEFT[why]}" for why in result.left)
    _report(job, result, left or f"retried {letter.id}")
    if left:
        sys.exit(1)


def _reopen_or_end(error: MessageError) -> None:
    """On a terminal, offer to open the editor again. Otherwise raise UsageError."""
    terminal.note(f"not valid: {error}")
    if not (sys.stdin.isatty() and sys.stderr.isatty() and confirmed("Open the editor again?")):
        raise UsageError("the edited text is not valid; the dead letter stays as it is")


def _open_editor(file: Path) -> None:
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or EDITOR
    try:
        words = [*shlex.split(command), str(file)]
        ended = subprocess.run(words, check=False)  # noqa: S603 - the editor of the operator
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot start the editor {command!r} ({error}); set VISUAL or EDITOR") from error
    if ended.returncode != 0:
        raise UsageError(f"the editor ended with code {ended.returncode}; the dead letter stays as it is")


async def _read(job: Job) -> DeadLetter:
    async with redis(job.outline) as client:
        return await read_letter(client, scope(job), job.selection)


async def _retry(job: Job, letter: DeadLetter, text: bytes) -> DeadResult:
    async with redis(job.outline) as client:
        built = intake(client, job.outline)
        who, because = operator(), job.because
        return await retry_edited(client, scope(job), letter, text, built, who=who, because=because)


def _report(job: Job, result: DeadResult, text: str) -> None:
    if job.as_json:
        print(json.dumps(result_document(result)), flush=True)
    terminal.note(text)
