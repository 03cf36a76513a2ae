"""One HTTP request and its response, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Request(msgspec.Struct, frozen=True):
    """One HTTP request, complete: `body` is sent byte for byte.

    `public_only` is for a URL that came with a message: only public addresses are connected to. `secrets`
    are texts to hide if the answer repeats them, besides those of the options and in the headers.
    """

    url: str
    body: bytes = b""
    headers: Mapping[str, str] = {}
    method: str = "POST"
    public_only: bool = False
    secrets: Sequence[str] = ()


class Response(msgspec.Struct, frozen=True):
    """The response. Header names are lower case; a gzip `body` is unpacked, and cut at 64 KiB.

    `incomplete` is None if headers and body are complete, and otherwise names the missing part in one line. A
    request with a 2xx status has been accepted and must not be sent again, so such a response may lack the
    rest of its headers or its body: it was cut short, never ended, or broke the rules of HTTP. A response
    with another status only lacks the part of its body beyond the limit, or one that cannot be unpacked.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    incomplete: str | None = None

    @property
    def text(self) -> str:
        """The body as text for humans: undecodable bytes are replaced."""
        return self.body.decode("utf-8", "replace")
