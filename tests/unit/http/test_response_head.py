"""The headers of a response, parsed on demand."""

from __future__ import annotations

import pytest

from relay.http.response_head import Headers

HEAD = b"".join(
    (
        b"HTTP/1.1 103 Early Hints\r\n",
        b"apns-id: early\r\n",
        b"link: </style.css>\r\n",
        b"\r\n",
        b"HTTP/2 200 \r\n",
        b"APNs-ID:  first\r\n",
        b"apns-id:  last \r\n",
        b"apns-id-of-another: x\r\n",
        b"name: caf\xc3\xa9 \xff\r\n",
        b"\r\n",
    )
)


@pytest.mark.parametrize("name", ["apns-id", "name", "link", "absent", "http/2 200", ""])
def test_a_single_header_is_that_of_the_parsed_head(name: str) -> None:
    alone, parsed = Headers(HEAD), Headers(HEAD)
    found = dict(parsed)
    assert alone.get(name) == parsed.get(name) == found.get(name)
    assert alone.get(name, "none") == found.get(name, "none")


def test_the_last_value_of_the_final_head_counts() -> None:
    assert Headers(HEAD).get("apns-id") == Headers(HEAD)["apns-id"] == "last"
    assert "link" not in Headers(HEAD)


def test_no_lines_are_no_headers() -> None:
    assert Headers(b"").get("apns-id") is None
    assert dict(Headers(b"")) == {}
