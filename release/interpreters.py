"""The versions of Python that relay supports, and the interpreters of this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def interpreters() -> dict[str, Path | None]:
    """Return an interpreter for each supported version, None if there is none here."""
    return {version: next(_working(version), None) for version in VERSIONS}


def _working(version: str) -> Iterator[Path]:
    on_path = shutil.which(f"python{version}")
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}*/bin/python"))
    for candidate in ([Path(on_path)] if on_path else []) + pyenv:
        # A shim on the PATH may stand for a version that is not installed.
        command = [str(candidate), "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.stdout.strip() == version:
            yield candidate
