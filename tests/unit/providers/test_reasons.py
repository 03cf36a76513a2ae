"""The line that people read about a provider's answer."""

from __future__ import annotations

import gzip

import pytest

from providers._shared.answers import reason
from relay.provider import Response

PACKED = gzip.compress(b'{"error": "invalid"}' * 20)


@pytest.mark.parametrize(
    ("response", "line"),
    [
        (Response(500), "status 500"),
        (Response(500, {}, b" oops\n\t again "), "500 oops again"),
        (Response(400, {}, "Größe ☃".encode()), "400 Größe ☃"),
        (Response(400, {}, b"caf\xe9 is closed today"), "400 caf\N{REPLACEMENT CHARACTER} is closed today"),
        (Response(500, {"content-encoding": "br"}, PACKED), "status 500 (its body is encoded as br)"),
        (Response(500, {"content-encoding": "\x1b[2J"}, PACKED), "status 500 (its body is not text)"),
        (Response(500, {}, PACKED), "status 500 (its body is not text)"),
        (Response(500, {}, PACKED, "the gzip body is damaged"), "status 500 (the gzip body is damaged)"),
    ],
)
def test_a_reason_is_readable(response: Response, line: str) -> None:
    assert reason(response) == line
