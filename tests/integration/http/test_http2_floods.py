"""Servers that flood an HTTP/2 connection with frames."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http.curl_http2 import CurlHttp2Transport
from relay.provider import Request
from testing.http2_peer import Peer, peering
from tests.integration.http.conftest import MEBIBYTE, opening, resident


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# Literal fields without indexing, so that no table of HPACK changes.
_STATUS_103 = b"\x08\x03103"
_FIELD = b"\x00\x03x-a" + b"\x7f\x81\x01" + b"y" * 256

_FLOODS: dict[str, Callable[[int], bytes]] = {
    "settings": lambda stream: frame(4, 0, 0, struct.pack(">HI", 4, 65535)) * 500,
    "ping": lambda stream: frame(6, 0, 0, bytes(8)) * 500,
    "rst_stream": lambda stream: frame(3, 0, stream + 2, struct.pack(">I", 8)) * 500,
    "window_update": lambda stream: frame(8, 0, stream, struct.pack(">I", 1)) * 500,
    "priority": lambda stream: frame(2, 0, stream, struct.pack(">IB", 0, 1)) * 500,
    "empty data": lambda stream: frame(0, 0, stream, b"") * 500,
    "unknown": lambda stream: frame(0xFA, 0, stream, bytes(100)) * 100,
    "informational": lambda stream: frame(1, 4, stream, _STATUS_103 + _FIELD) * 100,
    "trailers": lambda stream: frame(1, 4, stream, _FIELD) * 100,
    "continuation": lambda stream: frame(9, 0, stream, _FIELD * 50) * 10,
}
_BEGINNINGS: dict[str, Callable[[int], bytes]] = {
    "trailers": lambda stream: frame(1, 4, stream, b"\x88"),
    "empty data": lambda stream: frame(1, 4, stream, b"\x88"),
    "continuation": lambda stream: frame(1, 0, stream, b"\x88"),
}


@pytest.mark.parametrize("kind", _FLOODS)
async def test_a_flood_over_http2_takes_no_memory_and_no_turn_of_others(tmp_path: Path, kind: str) -> None:
    async def flood(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        if kind in _BEGINNINGS:
            await peer.write(_BEGINNINGS[kind](asked.stream))
        reading = asyncio.create_task(discard(peer))
        try:
            while True:
                await peer.write(_FLOODS[kind](asked.stream))
                await asyncio.sleep(0)
        finally:
            reading.cancel()

    async def discard(peer: Peer) -> None:
        with suppress(ConnectionError):
            while True:
                await peer.skip()

    async def answer(peer: Peer) -> None:
        await peer.start()
        while True:
            await peer.answer(await peer.request())

    (tmp_path / "good").mkdir()
    before = resident()
    async with (
        asyncio.timeout(120),
        peering(tmp_path, flood) as bad,
        peering(tmp_path / "good", answer) as good,
        opening(CurlHttp2Transport, 0.5, 1, ca=bad.ca, http2=True) as transport,
        opening(CurlHttp2Transport, 900, 1, ca=good.ca, http2=True) as other,
    ):
        flooded = asyncio.create_task(transport.send(Request(f"{bad.url}/", b"x")))
        for _ in range(10):
            assert (await other.send(Request(f"{good.url}/", b"x"))).status == 200
        with suppress(TransportError):  # some of it is no error by the standard
            await flooded
    assert resident() - before < 64 * MEBIBYTE
