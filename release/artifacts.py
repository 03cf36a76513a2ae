"""The wheel and the source distribution of this checkout, the same bytes at every build."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import relay

ROOT = Path(__file__).parents[1]
_RELEASED = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


@dataclass(frozen=True)
class Artifacts:
    """The two files that a release publishes."""

    wheel: Path
    sdist: Path

    def checksums(self) -> str:
        """Return a line for each file, as `sha256sum --check` reads it."""
        return "".join(f"{digest(path)}  {path.name}\n" for path in (self.sdist, self.wheel))


def latest_release(changelog: str) -> tuple[str, datetime]:
    """Return version and date of the newest version that the changelog has. Raises ValueError."""
    found = _RELEASED.search(changelog)
    if found is None:
        raise ValueError("CHANGELOG.md has no heading `## X.Y.Z - YYYY-MM-DD`")
    return found[1], datetime.fromisoformat(found[2]).replace(tzinfo=UTC)


def version_problem(changelog: str) -> str:
    """Return why the changelog does not fit the version of the package; empty if it does."""
    version, _ = latest_release(changelog)
    if version != relay.__version__:
        return f"relay/__init__.py is {relay.__version__}, the newest version in CHANGELOG.md is {version}"
    return ""


def build(folder: Path, checkout: Path = ROOT) -> Artifacts:
    """Build both files into the folder. The dates in them are that of the release."""
    _, date = latest_release((checkout / "CHANGELOG.md").read_text())
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(int(date.timestamp()))}
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Artifacts(wheel, sdist)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
