"""The outbox recipe with a real PostgreSQL: the database and the queue do not diverge, even if a process is
killed."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from redis.asyncio import Redis

from testing.pages.blocks import ROOT, blocks, commands
from testing.postgres import Postgres, binaries, running_postgres
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker
from testing.site import Site

PAGE = "examples/outbox"
EXAMPLE = ROOT / PAGE
POSTGRES = binaries()
BLOCKED = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
INSERT = "INSERT INTO relay_outbox (message) VALUES (%s)"
NEVER = '{"payload":{"body":{"text":"never"}}}'
pytestmark = pytest.mark.skipif(POSTGRES is None, reason="no PostgreSQL server on this machine")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    assert POSTGRES is not None
    with running_postgres(POSTGRES) as server:
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> str:
    return postgres.url


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS relay_outbox, posts")
        connection.execute((EXAMPLE / "schema.sql").read_text())
        yield connection


@pytest.fixture
async def relaying(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> AsyncIterator[None]:
    """A worker with the recipe's own configuration."""
    document = yaml.safe_load((EXAMPLE / "relay.yaml").read_text())
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump({**document, "admin": {"listen": ""}, "processes": 1}))
    async with worker(path, REDIS_URL=redis_server.url, FEED_URL=f"{receiver.url}/feed"):
        yield


@asynccontextmanager
async def forwarder(database_url: str, redis_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The recipe's forwarder as a process, killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE / "forward.py"),
        env={**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def post(database_url: str, author: str, text: str) -> None:
    """The application, as the recipe's README runs it."""
    environment = {**os.environ, "DATABASE_URL": database_url}
    subprocess.run([sys.executable, EXAMPLE / "app.py", author, text], env=environment, check=True)


def texts(receiver: Receiver) -> list[str]:
    return [json.loads(request.body)["text"] for request in receiver.requests]


def keyed(key: str, text: str) -> tuple[str]:
    return (json.dumps({"ordering_key": key, "payload": {"body": {"text": text}}}),)


async def emptied(db: psycopg.Connection) -> None:
    await found(db, "SELECT WHERE NOT EXISTS (SELECT FROM relay_outbox)")


async def found(db: psycopg.Connection, query: str) -> None:
    """Wait until the query has a row."""
    async with asyncio.timeout(120):
        while not db.execute(query).fetchall():
            await asyncio.sleep(0.01)


async def warned(process: asyncio.subprocess.Process) -> None:
    """Wait until the forwarder logs that it tries again."""
    assert process.stderr is not None
    async with asyncio.timeout(120):
        async for line in process.stderr:
            if b"trying again" in line:
                return
    raise AssertionError("the forwarder ended")


@pytest.mark.skipif(shutil.which("psql") is None, reason="no psql on this machine")
@pytest.mark.usefixtures("relaying", "db")
async def test_the_commands_of_the_page_deliver_both_posts(
    database_url: str, redis_server: RedisServer, receiver: Receiver
) -> None:
    """The forwarder of the page runs in the background until the shell reads a line."""
    urls = {"postgresql:///app": database_url, "redis://127.0.0.1:6379/0": redis_server.url}
    (block,) = (block for block in blocks(f"{PAGE}/README.md") if block.language == "sh")
    other = block.text.rpartition("# or: ")[2]
    lines = [*(line for line in commands(block) if not line.startswith("pip")), other, "read -r", "kill %1"]
    script = "\n".join(lines)
    for usual, ours in urls.items():
        script = script.replace(usual, shlex.quote(ours))
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euc", script),
        cwd=EXAMPLE,
        stdin=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    requests = await receiver.until(2)
    await shell.communicate(b"\n")
    assert shell.returncode == 0
    assert {json.loads(request.body)["text"] for request in requests} == {"Hello, followers", "Hello"}


@pytest.mark.usefixtures("relaying")
async def test_a_committed_message_is_sent_once_and_a_rolled_back_one_never(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    async with forwarder(database_url, site.server.url) as process:
        with db.transaction(force_rollback=True):
            db.execute("INSERT INTO posts (author, body) VALUES ('ada', 'never')")
            db.execute("INSERT INTO relay_outbox (message) VALUES (%s)", (NEVER,))
        post(database_url, "ada", "one")
        file = str(EXAMPLE / "post.sql")
        command = ["psql", database_url, "-v", "author=ada", "-v", "body=two", "-f", file]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        await site.receiver.until(2)
        await emptied(db)
        process.terminate()
        assert await process.wait() == 0
    assert texts(site.receiver) == ["one", "two"]


@pytest.mark.usefixtures("relaying")
async def test_a_kill_between_the_push_and_the_delete_is_one_delivery(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    post(database_url, "ada", "one")
    with psycopg.connect(database_url) as blocking:
        # The lock stops those that delete, and lets others read.
        blocking.execute("LOCK TABLE relay_outbox IN SHARE MODE")
        async with forwarder(database_url, site.server.url) as process:
            await site.receiver.until(1)
            process.kill()
            await process.wait()
        blocking.rollback()
    assert db.execute("SELECT count(*) FROM relay_outbox").fetchone() == (1,), "the row is still there"
    async with forwarder(database_url, site.server.url):
        await emptied(db)
        post(database_url, "ada", "two")
        await site.receiver.until(2)
    assert texts(site.receiver) == ["one", "two"]
    assert await site.redis.hget("relay:{feed}:control", "duplicate") == b"1"


@pytest.mark.usefixtures("relaying")
async def test_an_application_that_dies_before_its_commit_sends_nothing(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    dying = (
        "import os, signal, psycopg\n"
        "db = psycopg.connect(os.environ['DATABASE_URL'])\n"
        "db.execute(\"INSERT INTO posts (author, body) VALUES ('ada', 'never')\")\n"
        f"db.execute('INSERT INTO relay_outbox (message) VALUES (%s)', ({NEVER!r},))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    async with forwarder(database_url, site.server.url):
        environment = {**os.environ, "DATABASE_URL": database_url}
        assert subprocess.run([sys.executable, "-c", dying], env=environment, check=False).returncode == -9
        post(database_url, "ada", "after")
        await site.receiver.until(1)
    assert texts(site.receiver) == ["after"]
    assert db.execute("SELECT body FROM posts").fetchall() == [("after",)]


@pytest.mark.usefixtures("relaying")
async def test_two_forwarders_keep_the_order_and_one_takes_over(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    async with forwarder(database_url, site.server.url) as one, forwarder(database_url, site.server.url):
        for number in range(300):
            with db.transaction():
                message = {"ordering_key": "feed-ada", "payload": {"body": {"text": str(number)}}}
                db.execute("INSERT INTO relay_outbox (message) VALUES (%s)", (json.dumps(message),))
            if number == 150:
                await site.receiver.until(1)
                one.kill()
        await site.receiver.until(300)
        await emptied(db)
    assert texts(site.receiver) == [str(number) for number in range(300)]


async def test_redis_that_is_away_for_a_while_costs_nothing(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    server = RedisServer(site.server.binary, site.folder / "redis")
    async with forwarder(database_url, server.url) as process:
        post(database_url, "ada", "one")
        await warned(process)
        assert db.execute("SELECT count(*) FROM relay_outbox").fetchone() == (1,)
        server.start()
        try:
            await emptied(db)
            async with Redis.from_url(server.url) as client:
                (element,) = await client.lrange("notifications", 0, -1)
        finally:
            server.stop()
    assert json.loads(element)["payload"]["body"]["text"] == "one"


@pytest.mark.usefixtures("relaying")
async def test_transactions_of_one_key_go_out_as_they_wrote_though_they_ran_at_the_same_time(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    async with forwarder(database_url, site.server.url):
        with psycopg.connect(database_url) as first, psycopg.connect(database_url) as second:
            first.execute(INSERT, keyed("feed-ada", "one"))
            waiting = asyncio.create_task(asyncio.to_thread(second.execute, INSERT, keyed("feed-ada", "two")))
            await found(db, BLOCKED)
            # Nobody else waits for them.
            db.execute(INSERT, keyed("feed-bob", "other"))
            await site.receiver.until(1)
            first.commit()
            await waiting
            second.commit()
        await site.receiver.until(3)
    assert texts(site.receiver) == ["other", "one", "two"]


@pytest.mark.usefixtures("relaying")
async def test_rows_whose_numbers_come_again_are_other_messages(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    async with forwarder(database_url, site.server.url):
        post(database_url, "ada", "one")
        await site.receiver.until(1)
        await emptied(db)
        db.execute("TRUNCATE relay_outbox RESTART IDENTITY")  # as a restored backup would
        post(database_url, "ada", "two")
        await site.receiver.until(2)
    assert texts(site.receiver) == ["one", "two"]


async def test_messages_are_forwarded_as_they_were_written(
    site: Site, db: psycopg.Connection, database_url: str
) -> None:
    precise = "12345678901234567890.123456789"
    values = ["1.10", precise, "1e400", "1" * 4400, "[" * 2000 + "]" * 2000, '"\\u00e9 é"']
    written = [f'{{ "payload" : {{"body": {value}}}}}' for value in values]
    for message in written:
        db.execute("INSERT INTO relay_outbox (message_id, message) VALUES ('order \"7\"', %s)", (message,))
    async with forwarder(database_url, site.server.url):
        await emptied(db)
    elements: Any = await site.redis.lrange("notifications", 0, -1)
    carried = [element.decode() for element in elements]
    assert carried == [f'{{"id": "order \\"7\\"", {message[1:]}' for message in written]


@pytest.mark.parametrize(
    "message",
    [
        "[]",
        "{}",
        '{"body": {}}',
        '{"id": "a", "payload": {}}',
        '{"id": null, "payload": {}}',
        '{"payload": "\\ud800"}',
    ],
)
@pytest.mark.usefixtures("redis_server")
def test_a_message_that_cannot_be_forwarded_is_refused_on_insert(
    db: psycopg.Connection, message: str
) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.InvalidTextRepresentation)):
        db.execute(INSERT, (message,))


@pytest.mark.usefixtures("relaying", "db")
async def test_a_postgresql_that_crashes_and_comes_back_costs_nothing(site: Site, postgres: Postgres) -> None:
    async with forwarder(postgres.url, site.server.url) as process:
        post(postgres.url, "ada", "one")
        await site.receiver.until(1)
        postgres.crash()
        try:
            await warned(process)
        finally:
            postgres.start()
        post(postgres.url, "ada", "two")
        await site.receiver.until(2)
        assert process.returncode is None
    assert texts(site.receiver) == ["one", "two"]


async def test_a_forwarder_that_waits_for_its_turn_stops_on_a_signal(
    db: psycopg.Connection, database_url: str, redis_server: RedisServer
) -> None:
    async with forwarder(database_url, redis_server.url):
        await found(db, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted")
        async with forwarder(database_url, redis_server.url) as waiting:
            await found(db, BLOCKED)
            waiting.terminate()
            assert await waiting.wait() == 0
