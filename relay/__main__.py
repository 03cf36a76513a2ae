"""The `relay` command: exit code 0 done, 1 failed while running, 2 wrong usage or configuration."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TextIO

from relay import __version__
from relay.errors import RelayError, UsageError


def main() -> None:
    """Run the command line."""
    prepare()
    if sys.argv[1:] == ["--version"]:
        # Health checks and scripts run it often: it needs no parser of options.
        print(f"relay {__version__}")
        return
    from relay.cli.app import app

    run(app)


def continue_lean() -> None:
    """Do the job that `relay.cli.lean` hands over, without typer."""
    prepare()
    from relay.cli.dead_work import perform
    from relay.cli.lean import received

    run(lambda: perform(received()))


def prepare() -> None:
    """Prepare signals, standard streams and the garbage collector for a command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # There is nothing to clean up before an event loop runs, and a traceback of imports helps nobody.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_closed()
    sys.stdout, sys.stderr = _buffered(sys.stdout), _lossy(sys.stderr)
    # Imports make many objects and hardly any garbage: collections would take a fifth of the time.
    gc.disable()


def run(command: Callable[[], object]) -> None:
    """Run a command, and turn its errors into a line of text and an exit code."""
    try:
        command()
    except UsageError as error:
        print(_printable(error), file=sys.stderr)
        sys.exit(2)
    except RelayError as error:
        print(_printable(f"relay: {error}"), file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing is wrong, and what is left has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _open_closed() -> None:
    """A closed descriptor (`2>&-`) leads to /dev/null: otherwise our words could go into a connection."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free one
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)))


class _Lossy(io.FileIO):
    """A file that takes everything: a full disk or a closed pipe is no reason to end, nor to end with 120."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BlockingIOError:
            raise
        except OSError:
            return len(data)


def _lossy(stream: TextIO) -> TextIO:
    """A stream for people: an error while writing to it must not fail the command."""
    try:
        raw = _Lossy(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):
        return stream  # a test's, without a descriptor
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)


def _printable(text: object) -> str:
    from relay.text import hide_signing_secrets, printable

    return printable(hide_signing_secrets(str(text)), keep="\n")


def _buffered(stream: TextIO) -> TextIO:
    """With PYTHONUNBUFFERED, Python writes once and forgets what a pipe did not take of it."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)


if __name__ == "__main__":
    main()
