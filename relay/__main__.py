"""The `relay` command: exit code 0 done, 1 failed while running, 2 wrong usage or configuration."""

from __future__ import annotations

import atexit
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
        # Health checks and scripts run it often, and it needs no option parser.
        print(f"relay {__version__}")
        return
    if sys.argv[1:2] == ["health"]:
        from relay.cli.health import probe, words_of

        if (words := words_of(sys.argv[1:])) is not None:
            run(lambda: sys.exit(probe(words[0], as_json=words[1])))
    from relay.cli.app import app

    run(app)


def continue_lean() -> None:
    """Do the job that `relay.cli.lean` hands over, without typer."""
    prepare()
    # redis-py imports the metrics of OpenTelemetry if they are installed: 10 MiB that no short command uses.
    sys.modules.setdefault("opentelemetry.sdk.metrics", None)  # type: ignore[arg-type]
    from relay.cli.dead_job import perform
    from relay.cli.lean import received

    run(lambda: perform(received()))


def prepare() -> None:
    """Prepare signals, standard streams and the garbage collector for a command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before an event loop runs, there is nothing to clean up, and a traceback of imports helps no one.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_closed()
    sys.stdout, sys.stderr = _buffered(sys.stdout), _lossy(sys.stderr)
    # Imports create many objects and hardly any garbage: collections would take a fifth of the time.
    gc.disable()
    # At the end, Python collects again, which would take another fifth among the objects of all imports.
    atexit.register(gc.freeze)


def run(command: Callable[[], object]) -> None:
    """Run a command. Errors become a line of text and an exit code."""
    try:
        command()
    except UsageError as error:
        print(_printable(error), file=sys.stderr)
        sys.exit(2)
    except RelayError as error:
        print(_printable(f"relay: {error}"), file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has left (`| head`). That is not an error, and there is no reader for the
        # rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _open_closed() -> None:
    """Open /dev/null for a closed descriptor (`2>&-`), because a connection could get its number, and our
    output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)))


class _Lossy(io.FileIO):
    """A file whose writes never fail: a full disk or a closed pipe must not end the process, nor with code
    120."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BlockingIOError:
            raise
        except OSError:
            return len(data)


def _lossy(stream: TextIO) -> TextIO:
    """Return a stream for people: an error while writing to it must not fail the command."""
    try:
        raw = _Lossy(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):
        return stream  # a stream of a test, without a descriptor
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)


def _printable(text: object) -> str:
    from relay.text import hide_signing_secrets, printable

    return printable(hide_signing_secrets(str(text)), keep="\n")


def _buffered(stream: TextIO) -> TextIO:
    """Return a buffered stream. With PYTHONUNBUFFERED, Python drops the rest of a partial write to a pipe."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)


if __name__ == "__main__":
    main()
