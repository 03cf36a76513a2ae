"""The `relay` command: exit code 0 done, 1 failed while running, 2 wrong usage or configuration."""

from __future__ import annotations

import io
import signal
import sys
from typing import TextIO

from relay.errors import RelayError, UsageError


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # There is nothing to clean up before an event loop runs, and a traceback of imports helps nobody.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout, sys.stderr = _buffered(sys.stdout), _buffered(sys.stderr)
    from relay.cli.app import app
    from relay.settings.redaction import printable

    try:
        app()
    except UsageError as error:
        print(printable(str(error), keep="\n"), file=sys.stderr)
        sys.exit(2)
    except RelayError as error:
        print(printable(f"relay: {error}"), file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing is wrong.
        sys.stderr.close()
        sys.exit(0)


def _buffered(stream: TextIO) -> TextIO:
    """With PYTHONUNBUFFERED, Python writes once and forgets what a pipe did not take of it."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)


if __name__ == "__main__":
    main()
