"""One connection for all: answers find their questions, and trouble ends with the connection that had it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, NoScriptError, ResponseError, TimeoutError

from relay.redis_client.connect import drop_connections
from relay.redis_client.connection import Channel
from testing.redis_server import RedisServer


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url, socket_timeout=30, protocol=2) as client:
        yield client


@pytest.fixture
async def channel(client: Redis) -> AsyncIterator[Channel]:
    channel = Channel(client.connection_pool)
    yield channel
    await channel.close()


async def connected(redis: Redis) -> int:
    return int((await redis.info("clients"))["connected_clients"])


async def test_answers_find_their_questions(channel: Channel, redis: Redis) -> None:
    before = await connected(redis)
    texts = ["x" * random.randrange(100_000) + str(number) for number in range(200)]
    assert await asyncio.gather(*(channel.execute("ECHO", text) for text in texts)) == [
        text.encode() for text in texts
    ]
    assert await connected(redis) == before + 1


async def test_commands_that_come_at_once_are_one_read_of_redis(channel: Channel, redis: Redis) -> None:
    async def reads() -> int:
        return int((await redis.info("stats"))["total_reads_processed"])

    await channel.execute("PING")
    before = await reads()
    await asyncio.gather(*(channel.execute("ECHO", str(number)) for number in range(100)))
    assert await reads() - before < 10


async def test_words_of_any_kind_go_out(channel: Channel) -> None:
    words = ("return ARGV", 0, "ä", b"\0\r\n", 7, 1.5, "")
    assert await channel.execute("EVAL", *words) == ["ä".encode(), b"\0\r\n", b"7", b"1.5", b""]


async def test_an_error_is_one_question_s_alone(channel: Channel) -> None:
    answers = await asyncio.gather(
        channel.execute("ECHO", "a"),
        channel.execute("EVALSHA", "0" * 40, 0),
        channel.execute("EVAL", "return redis.error_reply('no')", 0),
        channel.execute("ECHO", "b"),
        return_exceptions=True,
    )
    assert (answers[0], answers[3]) == (b"a", b"b")
    assert isinstance(answers[1], NoScriptError)
    assert isinstance(answers[2], ResponseError)


async def test_a_cancelled_command_leaves_the_others_their_answers(channel: Channel) -> None:
    await channel.execute("PING")
    asked = [asyncio.ensure_future(channel.execute("ECHO", str(number))) for number in range(9)]
    await asyncio.sleep(0)
    asked[4].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers.pop(4), asyncio.CancelledError)
    assert answers == [b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"8"]
    assert await channel.execute("ECHO", "after") == b"after"


@pytest.mark.parametrize("how", ["killed", "dropped", "closed"])
async def test_a_broken_connection_fails_all_commands_and_the_next_one_connects(
    channel: Channel, client: Redis, redis: Redis, how: str
) -> None:
    number = await channel.execute("CLIENT", "ID")
    asked = [asyncio.ensure_future(channel.execute("BLPOP", "nothing", 0)) for _ in range(3)]
    await asyncio.sleep(0)
    if how == "killed":
        await redis.execute_command("CLIENT", "KILL", "ID", number)
    elif how == "dropped":
        await drop_connections(client)
    else:
        await channel.close()
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(answer, ConnectionError)
    assert await channel.execute("CLIENT", "ID") > number


async def test_commands_that_come_at_once_open_one_connection(channel: Channel, redis: Redis) -> None:
    before = await connected(redis)
    numbers = await asyncio.gather(*(channel.execute("CLIENT", "ID") for _ in range(50)))
    assert len(set(numbers)) == 1
    assert await connected(redis) == before + 1


async def test_silence_ends_all_that_is_under_way(redis_server: RedisServer, redis: Redis) -> None:
    async with Redis.from_url(redis_server.url, socket_timeout=2, protocol=2) as client:
        channel = Channel(client.connection_pool)
        await channel.execute("SET", "list", "no list")
        asked = [asyncio.ensure_future(channel.execute("BLPOP", "nothing", 0)) for _ in range(3)]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(answer, TimeoutError)
            assert str(answer) == "no answer within 2 s"
        assert await channel.execute("GET", "list") == b"no list"
        await channel.close()


async def test_an_answer_restarts_the_timeout(redis_server: RedisServer) -> None:
    """A channel that is always in use is never silent."""
    async with Redis.from_url(redis_server.url, socket_timeout=2, protocol=2) as client:
        channel = Channel(client.connection_pool)
        first = await channel.execute("CLIENT", "ID")
        for _ in range(4):
            await channel.execute("BLPOP", "nothing", 0.7)
        assert await channel.execute("CLIENT", "ID") == first
        await channel.close()


async def test_a_closed_port_raises_a_connection_error() -> None:
    async with Redis(port=1, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(ConnectionError):
            await Channel(client.connection_pool).execute("PING")


async def test_a_closed_channel_returns_its_connection_to_the_pool_unchanged(
    channel: Channel, client: Redis
) -> None:
    await channel.execute("PING")
    await channel.close()
    connection = await client.connection_pool.get_connection()
    assert connection.socket_timeout == 30
    await client.connection_pool.release(connection)
    assert await client.ping()


async def test_a_text_that_is_too_long_is_dropped_and_the_next_answer_is_right(redis: Redis) -> None:
    channel = Channel(redis.connection_pool, longest=1000)
    await redis.rpush("list", b"a" * 1000, b"b" * 1001, b"c" * 3_000_000, b"\r\n", b"")
    answers = [await channel.execute("LPOP", "list") for _ in range(6)]
    assert answers == [b"a" * 1000, b"", b"", b"\r\n", b"", None]
    assert await channel.execute("BLMOVE", "list", "other", "LEFT", "RIGHT", 0.01) is None
    await redis.set("text", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await channel.execute("LPOP", "text")
    await redis.rpush("list", b"again")
    assert await channel.execute("LPOP", "list") == b"again"
    await channel.close()
