"""Installations of a wheel alone, in environments of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PINS = Path(__file__).parent / "constraints.txt"
"""Versions and hashes of all libraries that relay needs with all extras."""

PLAIN_PINS = Path(__file__).parent / "constraints-plain.txt"
"""Those of an installation without extras."""


def environment(python: Path, folder: Path) -> Path:
    """Make an empty virtual environment. Returns its interpreter."""
    run(str(python), "-m", "venv", str(folder))
    return folder / "bin" / "python"


def install_pinned(python: Path, wheel: Path, pins: Path) -> None:
    """Install the wheel with exactly the pinned versions of its libraries, each checked against its hash."""
    run(str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(pins))
    run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    run(str(python), "-m", "pip", "check")


def validate(python: Path, folder: Path) -> None:
    """Write a configuration with the installed command and check it."""
    relay = str(python.with_name("relay"))
    run(relay, "init", cwd=folder)
    run(relay, "check", cwd=folder)


def demonstrate(python: Path, folder: Path) -> str:
    """Run the demo outside of the checkout. Returns the last table that it prints."""
    done = run(str(python.with_name("relay")), "demo", "--seconds", "5", cwd=folder)
    return done[done.rfind("┏") :]


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command and return its output. Raises RuntimeError with it if the command fails."""
    # An installed relay must not find the one of this checkout.
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout
