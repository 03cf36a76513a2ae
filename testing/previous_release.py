"""The release before this version, built from the history of the repository."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import relay

ROOT = Path(__file__).parents[1]
_FORM = "docs/decisions/0067-a-message-keeps-its-failed-attempts-with-its-counters.md"
"""Since the commit that added this file, the keys have had the form of 0.1.0."""

_PACKAGE = ("relay", "providers")
_SOURCES = {*_PACKAGE, "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "config.example.yaml"}
"""Everything that a wheel is built from."""


class Unavailable(Exception):
    """The history is not here, or has no earlier version."""


def unpack_previous_release(folder: Path) -> Path:
    """Install the previous release into the folder. Returns the entry for PYTHONPATH. Raises Unavailable.

    Before the second release, it is the first commit whose keys have the form of 0.1.0: the promise begins
    there.
    """
    commit = _newest_tag() or _first_commit_of_the_form()
    if not _git("diff", "--name-only", commit, "--", *_PACKAGE):
        raise Unavailable("the history has no version other than this one")
    files = [name for name in _git("ls-tree", "--name-only", commit).decode().split() if name in _SOURCES]
    with tarfile.open(fileobj=BytesIO(_git("archive", commit, *files))) as archive:
        archive.extractall(folder / "source")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _newest_tag() -> str:
    tags = _git("tag", "--list", "v*", "--merged", "HEAD", "--sort=-version:refname").decode().split()
    return next((tag for tag in tags if tag != f"v{relay.__version__}"), "")


def _first_commit_of_the_form() -> str:
    commits = _git("log", "--reverse", "--format=%H", "--diff-filter=A", "--", _FORM).decode().split()
    if not commits:
        raise Unavailable(f"the history does not reach back to the commit that added {_FORM}")
    return commits[0]


def _git(*words: str) -> bytes:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        raise Unavailable("git is not installed") from None
    if done.returncode:
        raise Unavailable(f"git {words[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
