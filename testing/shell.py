"""Splits commands of the documentation into arguments, as a shell does."""

from __future__ import annotations

import subprocess


def arguments(command: str, program: str = "relay") -> list[str]:
    """Return the arguments that bash gives to the program."""
    script = f"{program}() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, check=True)
    return done.stdout.decode().split("\0")[:-1]
