"""A configuration as it was when it was read: the text of the file and of the secret files that it names.

A supervisor hands a snapshot to its workers, so that all of them use the same configuration although the
files have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that a configuration consists of, apart from the environment."""

    path: str
    """The file, as errors name it; relative paths in the file begin at its folder."""
    text: str
    secrets: dict[str, bytes] = {}
    """The contents of the secret files by their paths."""

    def __repr__(self) -> str:
        return f"Snapshot({self.path!r})"


class SecretFiles:
    """Reads secret files and remembers their contents; those that are known already are not read again."""

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self.contents = dict(contents or {})
        self.paths: dict[tuple[str | int, ...], Path] = {}
        """The file of each field that is filled from one, by the field's location."""

    def read(self, path: Path, longest: int) -> bytes:
        """At most `longest` bytes of a file. Raises OSError, or ValueError for an impossible path."""
        name = str(path)
        if name not in self.contents:
            with path.open("rb") as file:
                self.contents[name] = file.read(longest)
        return self.contents[name]
