"""Run several copies of a command: `python spawn.py NUMBER COMMAND…`. SIGTERM is passed on to all of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import FrameType


def main() -> None:
    copies = [subprocess.Popen(sys.argv[2:]) for _ in range(int(sys.argv[1]))]

    def terminate(number: int, frame: FrameType | None) -> None:
        for copy in copies:
            copy.terminate()

    signal.signal(signal.SIGTERM, terminate)
    sys.exit(max(copy.wait() for copy in copies))


if __name__ == "__main__":
    main()
