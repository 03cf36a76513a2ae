"""One HTTP request and its response, as plain data."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Request(msgspec.Struct, frozen=True):
    """One HTTP request, complete: `body` is sent byte for byte.

    `public_only` guards a URL that came with a message: it must resolve to public addresses.
    """

    url: str
    body: bytes = b""
    headers: Mapping[str, str] = {}
    method: str = "POST"
    public_only: bool = False


class Response(msgspec.Struct, frozen=True):
    """The answer. Header names are lower case; `body` is cut at the transport's limit."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text for humans: undecodable bytes are replaced."""
        return self.body.decode("utf-8", "replace")
