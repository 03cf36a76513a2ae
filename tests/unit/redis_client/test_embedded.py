"""A Redis server that relay starts itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from relay.errors import StoreError
from relay.redis_client.embedded import EmbeddedRedis
from relay.settings.redis_url import EmbeddedPlace


async def test_a_port_of_another_program_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        place = EmbeddedPlace.of(f"embedded://{tmp_path}/data?port={port}")
        with pytest.raises(StoreError, match=f"cannot open port {port} of 127.0.0.1: Address already in use"):
            async with EmbeddedRedis(place):
                pass
