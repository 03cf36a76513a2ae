"""The Socket.IO example's npm packages, installed once for each lock file, and Node itself."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "socketio"
_FILES = ("package.json", "package-lock.json")
_INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_OLDEST = 18


def node_packages() -> Path:
    """Return a folder with `node_modules` of exactly the locked versions. Skips the test if that is not
    possible."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed (apt install nodejs npm; .ci/run does it)")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < _OLDEST:
        pytest.skip(f"node {version.strip()} is too old: Socket.IO's Redis client needs {_OLDEST}")
    content = b"".join((EXAMPLE / name).read_bytes() for name in _FILES)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relay-tests"
    folder = cache / f"socketio-{hashlib.sha256(content).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _install(folder)
    return folder


def _install(folder: Path) -> None:
    """Install to a temporary folder and rename it, because several runs may do this at the same time."""
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as name:
        place = Path(name) / "packages"
        place.mkdir()
        for file in _FILES:
            shutil.copy(EXAMPLE / file, place)
        done = subprocess.run(_INSTALL, cwd=place, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install the Socket.IO packages: {done.stderr.strip()[-300:]}")
        try:
            place.rename(folder)
        except OSError:
            if not folder.exists():
                raise
