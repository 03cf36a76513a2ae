"""A configuration at the time of reading: the text of the file and of its secret files.

A supervisor hands a snapshot to its workers, so that all of them use the same configuration although the
files have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec


class Snapshot(msgspec.Struct, frozen=True):
    """All texts of a configuration, without the environment."""

    path: str
    """The path of the file, for errors. Relative paths in the file begin at its folder."""
    text: str
    secrets: dict[str, bytes] = {}
    """The contents of the secret files by their paths."""

    def __repr__(self) -> str:
        return f"Snapshot({self.path!r})"


class SecretFiles:
    """Reads each secret file once and remembers its content."""

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self.contents = dict(contents or {})
        self.paths: dict[tuple[str | int, ...], Path] = {}
        """The secret file of each field, by the location of the field."""

    def read(self, path: Path, longest: int) -> bytes:
        """Return at most `longest` bytes of a file. Raises OSError, or ValueError for an impossible path."""
        name = str(path)
        if name not in self.contents:
            with path.open("rb") as file:
                self.contents[name] = file.read(longest)
        return self.contents[name]
