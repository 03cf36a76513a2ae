"""Dead letters on every installed Redis: bounds and pages."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from relay.store import dead
from testing.streams import entries_of

STREAM = "relay:{hook}:dead"


async def file(redis: Redis, ids: range, raw: str = "{") -> None:
    for number in ids:
        await redis.xadd(STREAM, {"raw": raw, "reason": "not JSON"}, id=f"{number}-0")


@pytest.mark.parametrize(
    ("before", "most", "trimmed", "first"),
    [(0.0, 0, 0, 1000), (1.1, 0, 100, 1100), (0.0, 50, 200, 1200), (1.1, 50, 200, 1200), (9.0, 0, 250, None)],
)
async def test_a_stream_is_trimmed_by_age_and_by_number(
    redis: Redis, before: float, most: int, trimmed: int, first: int | None
) -> None:
    await file(redis, range(1000, 1250))
    assert await dead.trim(redis, STREAM, before=before, most=most) == trimmed
    left = await entries_of(redis, STREAM, count=1)
    assert [entry for entry, _ in left] == ([] if first is None else [f"{first}-0".encode()])


async def test_a_page_is_bounded_by_number_and_by_bytes(redis: Redis) -> None:
    await file(redis, range(1, 251))
    await file(redis, range(1000, 1010), raw="x" * 2 * dead.RAW_BYTES)
    pages = [page async for page in dead.pages(redis, STREAM)]
    assert sum(len(page) for page in pages) == 260
    for page in pages:
        assert len(page) <= dead.PAGE
        assert sum(len(letter.raw) for letter in page) <= dead.PAGE_BYTES + dead.RAW_BYTES
    cut = pages[-1][-1]
    assert (len(cut.raw), cut.raw_size) == (dead.RAW_BYTES, 2 * dead.RAW_BYTES)
    complete = await dead.read_complete(redis, cut)
    assert complete is not None
    assert len(complete.raw) == 2 * dead.RAW_BYTES
    assert await dead.forget(redis, STREAM, [cut.entry]) == 1
    assert await dead.read_complete(redis, cut) is None
