"""The connection to Redis over TLS: no version below 1.2."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from relay.errors import StoreError
from relay.redis_client.connect import connect
from testing.http2_server import certificates
from testing.raw_server import serving


async def try_redis(folder: Path, version: ssl.TLSVersion) -> tuple[StoreError, bytes]:
    """Connect to a server that speaks only this version. Returns the error, and the bytes that the server
    got."""
    authority, certificate, key = certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    heard = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += await reader.read(4096)

    async with serving(handler, context) as port:
        with pytest.raises(StoreError) as caught:
            async with connect(f"rediss://:hush-hush@127.0.0.1:{port}/0?ssl_ca_certs={authority}"):
                raise AssertionError("this is no Redis")
    return caught.value, heard


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_tls_before_1_2_is_not_spoken_with_redis(tmp_path: Path, version: ssl.TLSVersion) -> None:
    error, heard = await try_redis(tmp_path, version)
    assert not heard
    assert "cannot reach Redis" in str(error)
    assert "hush" not in str(error)


async def test_tls_1_2_is_spoken_with_redis(tmp_path: Path) -> None:
    error, heard = await try_redis(tmp_path, ssl.TLSVersion.TLSv1_2)
    assert b"hush-hush" in heard, "it went over the encrypted connection"
    assert "hush" not in str(error)
