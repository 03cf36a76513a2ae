"""The output that a page shows, compared with real output."""

from __future__ import annotations

import re

NUMBER = re.compile(r"\d[\d.,]*(?:[smhdk](?![a-z]))?")


def is_shown(line: str, output: str) -> bool:
    """Whether one line of the output has all parts of this line between `…`. Spaces may differ."""
    parts = [_single_spaced(part.strip()) for part in line.split("…")]
    return any(all(part in _single_spaced(row) for part in parts) for row in output.splitlines())


def missing(lines: str, output: str) -> list[str]:
    """Return the lines of which the output has nothing similar: the same text with other numbers."""
    without_numbers = NUMBER.sub("0", output)
    return [line for line in lines.splitlines() if not is_shown(NUMBER.sub("0", line), without_numbers)]


def _single_spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text)
