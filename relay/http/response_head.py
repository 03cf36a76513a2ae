"""The head of an HTTP/1.1 or HTTP/2 response, which libcurl passes line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ENDS = (b"\r\n", b"\n")
"""The empty line at the end of a head."""


class Headers(Mapping[str, str]):
    """The headers of the final head, including trailers. They are parsed on demand, because few are ever
    read."""

    __slots__ = ("_heads", "_parsed")

    def __init__(self, heads: bytes) -> None:
        """`heads` are all heads of the response, as they were received."""
        self._heads = heads
        self._parsed: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def get(self, name: str, default: Any = None) -> Any:
        """Find one header without parsing the others, as successful responses need one at most."""
        if self._parsed is not None:
            return self._parsed.get(name, default)
        wanted = f"{name}:".encode()
        size = len(wanted)
        for line in reversed(self._heads.split(b"\n")):
            if line[:size].lower() == wanted:
                return line[size:].strip().decode("utf-8", "replace")
            if line[:5] == b"HTTP/":
                break
        return default

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            self._parsed = {}
            for line in final_head(self._heads.split(b"\n"))[1:]:
                name, colon, value = line.partition(b":")
                if colon:
                    self._parsed[name.decode("latin-1").lower()] = value.strip().decode("utf-8", "replace")
        return self._parsed


def final_head(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Return the lines from the last status line on. Earlier heads are informational, or of a proxy
    (CONNECT)."""
    for first in range(len(lines) - 1, 0, -1):
        if lines[first][:5] == b"HTTP/":
            return lines[first:]
    return lines


def final_head_ended(lines: Sequence[bytes]) -> bool:
    """Return whether the final head is complete."""
    return any(line in ENDS for line in final_head(lines))


def informational_heads(lines: Sequence[bytes]) -> int:
    """Return the number of heads with a status of 1xx."""
    return sum(_is_status(line) and _status(line) < 200 for line in lines)


def accepted(lines: Sequence[bytes], limit: int, *, by_tunnel: bool) -> bool:
    """Return whether there is a whole status line of 2xx among the first `limit` bytes.

    `by_tunnel`: the first final head is that of a proxy, which has opened a tunnel.
    """
    size, final = 0, []
    for line in lines:
        size += len(line)
        if size > limit:
            break
        if _is_status(line) and line.endswith(b"\n") and _status(line) >= 200:
            final.append(_status(line))
    if by_tunnel:
        del final[:1]
    return bool(final) and 200 <= final[-1] < 300


def _is_status(line: bytes) -> bool:
    return line[:5] == b"HTTP/"


def _status(line: bytes) -> int:
    """Return the status of a status line; 0 if it has none. HTTP/2 has no minor version here."""
    parts = line.split(None, 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
