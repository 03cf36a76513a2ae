"""Runs so many copies of a command: `python -m bench.copies NUMBER COMMAND…`. SIGTERM goes to all of them."""

from __future__ import annotations

import signal
import subprocess
import sys


def main() -> None:
    # Before the first one, so that none is left behind.
    signal.signal(signal.SIGTERM, lambda number, frame: [copy.terminate() for copy in copies])
    copies: list[subprocess.Popen[bytes]] = []
    for _ in range(int(sys.argv[1])):
        copies.append(subprocess.Popen(sys.argv[2:]))
    sys.exit(max(copy.wait() for copy in copies))


if __name__ == "__main__":
    main()
