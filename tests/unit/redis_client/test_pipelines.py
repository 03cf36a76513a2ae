"""Transactions in pipelines: those that are known to have run, over every kind of connection and on a
cluster."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis, RedisCluster

from relay.errors import UsageError
from relay.provider.redis import Answer, Refused, Replied, Transaction, Unanswered
from relay.redis_client.connect import open_client
from relay.redis_client.pipelines import Transactions
from testing.http2_server import certificates
from testing.ports import free_port
from testing.redis_cluster import RedisCluster as Cluster
from testing.redis_sentinel import RedisSentinel
from testing.redis_server import RedisServer, speaks_tls
from testing.streams import entries_of
from testing.tcp_proxy import proxying
from tests.conftest import BINARIES

NEWEST = BINARIES[max(BINARIES)]
QUIT = Transaction([("QUIT",)], "")


def an_entry(stream: str, number: int = 0) -> Transaction:
    """An entry of a stream and a message on the channel of the same name."""
    return Transaction([("XADD", stream, "*", "n", number), ("PUBLISH", stream, number)], stream)


@asynccontextmanager
async def linked(url: str, timeout: float = 10.0) -> AsyncIterator[Transactions]:
    client = open_client(url)
    try:
        yield Transactions(client, timeout)
    finally:
        await client.aclose()


async def ran(url: str) -> bool:
    """Return whether one transaction runs there, with a client of its own."""
    async with linked(url) as link:
        (answer,) = await link.run([an_entry("s")])
        return isinstance(answer, Replied) and answer.replies[1] == 0


def kinds(answers: Sequence[Answer]) -> list[type[Answer]]:
    return [type(answer) for answer in answers]


# Known results


async def test_commands_that_ran_before_the_connection_broke_are_known(
    redis: Redis, redis_server: RedisServer
) -> None:
    async with linked(redis_server.url) as link:
        answers = await link.run(
            [an_entry("s", 1), an_entry("s", 2), QUIT, an_entry("s", 3), an_entry("s", 4)]
        )
        assert kinds(answers) == [Replied, Replied, Replied, Unanswered, Unanswered]
        assert kinds(await link.run([an_entry("s", 5)])) == [Replied]
    assert [fields[b"n"] for _, fields in await entries_of(redis, "s")] == [b"1", b"2", b"5"]


async def test_a_late_answer_is_not_mistaken_for_that_of_another_request(
    redis: Redis, redis_server: RedisServer
) -> None:
    async with proxying(redis_server.port) as proxy, linked(proxy.url, timeout=3) as link:
        assert kinds(await link.run([an_entry("s", 1)])) == [Replied]
        proxy.lose_answers()
        (late,) = await link.run([an_entry("s", 2)])
        proxy.heal()
        (next_one,) = await link.run([Transaction([("ECHO", "mine")], "")])
    assert late == Unanswered("no answer within 3 s")
    assert next_one == Replied([b"mine"])
    assert await redis.xlen("s") == 2, "it ran all the same"


async def test_a_command_that_fails_spoils_only_its_own_transaction(
    redis: Redis, redis_server: RedisServer
) -> None:
    await redis.set("text", "")
    wrong = Transaction([("XADD", "s"), ("PUBLISH", "c", "")], "s")
    unknown = Transaction([("NOSUCH",)], "s")
    async with linked(redis_server.url) as link:
        answers = await link.run([an_entry("text"), wrong, unknown, an_entry("s")])
    type_error, count, command, fine = answers
    assert isinstance(type_error, Refused)
    assert (type_error.code, type_error.text[:20]) == ("WRONGTYPE", "WRONGTYPE Operation ")
    assert isinstance(count, Refused)
    assert count.code == "ERR"
    assert count.text.startswith("ERR wrong number of arguments for 'xadd'")
    assert isinstance(command, Refused)
    assert command.text.startswith("ERR unknown command")
    assert isinstance(fine, Replied)


async def test_pipelines_that_are_under_way_at_once_do_not_mix(redis_server: RedisServer) -> None:
    async def echo(link: Transactions, number: int) -> Sequence[Answer]:
        words = [f"{number}-{place}" for place in range(20)]
        return await link.run([Transaction([("ECHO", word), ("ECHO", word)], "") for word in words])

    async with linked(redis_server.url) as link:
        found = await asyncio.gather(*(echo(link, number) for number in range(50)))
    expected = [[f"{number}-{place}".encode()] * 2 for number in range(50) for place in range(20)]
    replied = [answer for answers in found for answer in answers if isinstance(answer, Replied)]
    assert [list(answer.replies) for answer in replied] == expected


async def test_an_abandoned_run_leaves_the_connection_fit_for_use(
    redis: Redis, redis_server: RedisServer
) -> None:
    async with proxying(redis_server.port) as proxy, linked(proxy.url) as link:
        await link.run([an_entry("s")])
        proxy.lose_answers()
        run = asyncio.create_task(link.run([an_entry("abandoned")]))
        assert await redis.xread({"abandoned": 0}, block=120_000)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        proxy.heal()
        assert await link.run([Transaction([("ECHO", "mine")], "")]) == [Replied([b"mine"])]


async def test_a_closed_port_is_an_outage() -> None:
    async with linked(f"redis://127.0.0.1:{free_port()}/0") as link:
        answers = await link.run([an_entry("s"), an_entry("s")])
        assert kinds(answers) == [Unanswered, Unanswered]
        with pytest.raises(UsageError, match=r"cannot use Redis: .*[Cc]onnect"):
            await link.greet()


async def test_a_silent_redis_is_an_outage(redis_server: RedisServer) -> None:
    async with proxying(redis_server.port) as proxy, linked(proxy.url, timeout=0.1) as link:
        proxy.stall()
        assert await link.run([an_entry("s")]) == [Unanswered("no answer within 0.1 s")]
        with pytest.raises(UsageError, match=r"no answer within 0\.1 s"):
            await link.greet()


# Places of slots


async def test_transactions_run_over_a_unix_socket(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    server = RedisServer(NEWEST, tmp_path / "redis", "--unixsocket", str(socket)).start()
    try:
        assert await ran(f"unix://{socket}")
    finally:
        server.stop()


@pytest.mark.skipif(not speaks_tls(NEWEST), reason="this redis-server was built without TLS")
async def test_transactions_run_over_tls(tmp_path: Path) -> None:
    authority, certificate, key = certificates(tmp_path)
    port = free_port()
    options = ("--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key)
    server = RedisServer(NEWEST, tmp_path / "redis", *map(str, options), "--tls-auth-clients", "no").start()
    try:
        assert await ran(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority}")
        assert not await ran(f"rediss://127.0.0.1:{port}/0"), "an unknown authority"
    finally:
        server.stop()


async def test_transactions_follow_sentinels_to_the_master_of_the_moment(tmp_path: Path) -> None:
    sentinels = RedisSentinel(NEWEST, tmp_path, replicas=1).start()
    try:
        async with linked(sentinels.url) as link:
            assert kinds(await link.run([an_entry("s", 1)])) == [Replied]
            first = sentinels.master()
            async with Redis(port=sentinels.sentinels[0].port) as sentinel:
                await sentinel.execute_command("SENTINEL", "FAILOVER", "main")
            async with asyncio.timeout(120):
                while sentinels.master() is first or kinds(await link.run([an_entry("s", 2)])) != [Replied]:
                    await asyncio.sleep(0.02)
    finally:
        sentinels.stop()


# On a cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(NEWEST, tmp_path_factory.mktemp("cluster"), replicas=1).start()
    for node in running.nodes:
        # No failover starts because the machine is busy.
        with SyncRedis(port=node.port) as one:
            one.config_set("cluster-node-timeout", 60_000)
            one.config_set("cluster-replica-no-failover", "yes")
    yield running
    for node in running.nodes:
        # A master that gets SIGTERM waits for its replicas.
        node.kill()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[RedisCluster]:
    """A client of the empty cluster, for looking and for moving slots."""
    async with RedisCluster.from_url(
        cluster.url.replace("redis+cluster", "redis").partition(",")[0]
    ) as found:
        await found.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield found


async def test_streams_and_channels_of_any_slots_and_listeners_at_any_node(
    cluster: Cluster, client: RedisCluster
) -> None:
    names = [f"s{number}" for number in range(60)]
    transactions = [an_entry(name, number) for number, name in enumerate(names)]
    transactions += [Transaction([("PUBLISH", "end", "")], "end")]
    subscribers = [Redis(port=node.port) for node in cluster.nodes]
    heard = [subscriber.pubsub() for subscriber in subscribers]
    try:
        for pubsub in heard:
            await pubsub.psubscribe("*")
            await pubsub.get_message(timeout=120)
        async with linked(cluster.url) as link:
            assert kinds(await link.run(transactions)) == [Replied] * 61
        for pubsub in heard:
            found: set[bytes] = set()
            async with asyncio.timeout(120):
                while len(found) < 61:
                    if message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=120):
                        found.add(message["channel"])
        assert [await client.xlen(name) for name in names] == [1] * 60
    finally:
        for pubsub in heard:
            await pubsub.aclose()
        for subscriber in subscribers:
            await subscriber.aclose()


async def test_a_slot_that_has_moved_is_followed_at_once(cluster: Cluster, client: RedisCluster) -> None:
    async with linked(cluster.url) as link:
        assert kinds(await link.run([an_entry("here")])) == [Replied]
        slot = client.keyslot("moving")
        source, target = ends(cluster, client, "moving")
        target_id = await on(target, "CLUSTER", "MYID")
        for port in (target, source):
            await on(port, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        try:
            async with asyncio.timeout(120):
                # The nodes may disagree for a moment; a refused transaction has not run.
                while kinds(await link.run([an_entry("moving")])) != [Replied]:
                    await asyncio.sleep(0.01)
            assert kinds(await link.run([an_entry("here")])) == [Replied]
            assert await on(target, "XLEN", "moving") == 1
        finally:
            await on(target, "DEL", "moving")
            source_id = await on(source, "CLUSTER", "MYID")
            for node in masters(cluster):
                await on(node.port, "CLUSTER", "SETSLOT", slot, "NODE", source_id)


async def test_a_slot_that_is_moving_is_followed_at_once(cluster: Cluster, client: RedisCluster) -> None:
    slot = client.keyslot("moving")
    source, target = ends(cluster, client, "moving")
    source_id, target_id = await on(source, "CLUSTER", "MYID"), await on(target, "CLUSTER", "MYID")
    await on(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await on(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    try:
        async with linked(cluster.url) as link:
            single = Transaction([("XADD", "moving", "*", "n", 0)], "moving")
            answers = await link.run([an_entry("moving"), an_entry("here"), single])
        assert kinds(answers) == [Replied] * 3
    finally:
        await on(target, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        await on(target, "DEL", "moving")
        for node in masters(cluster):
            await on(node.port, "CLUSTER", "SETSLOT", slot, "NODE", source_id)


def ends(cluster: Cluster, client: RedisCluster, key: str) -> tuple[int, int]:
    """The ports of the node that has a key's slot, and of one that has not."""
    node = client.get_node_from_key(key)
    assert node is not None
    source = int(node.port)
    return source, next(other.port for other in masters(cluster) if other.port != source)


def masters(cluster: Cluster) -> list[RedisServer]:
    return cluster.nodes[: cluster.masters]


async def on(port: int, *words: str | int) -> Any:
    """The reply of one node."""
    async with Redis(port=port, decode_responses=True) as node:
        return await node.execute_command(*words)


async def test_a_wrong_password_for_a_cluster_is_refused(cluster: Cluster, client: RedisCluster) -> None:
    async with linked(cluster.url.replace("//", "//app:wrong@")) as link:
        (answer,) = await link.run([an_entry("s")])
    assert isinstance(answer, Refused)
    assert answer.code == "NOAUTH"


async def test_the_least_rights_suffice_on_a_cluster(cluster: Cluster, client: RedisCluster) -> None:
    page = (Path(__file__).parents[3] / "docs/reference/providers/redis.md").read_text()
    (single,) = re.findall(r"ACL SETUSER app on >PASSWORD (.*)", page)
    (more,) = re.findall(r"A cluster also needs `(.*?)`", page)
    for node in cluster.nodes:
        await on(node.port, "ACL", "SETUSER", "app", "reset", "on", ">pass", *single.split(), *more.split())
    async with linked(cluster.url.replace("//", "//app:pass@")) as link:
        assert kinds(await link.run([an_entry("news")])) == [Replied]
        await link.greet()


# The last ones: the cluster takes a moment to be whole again.


async def test_a_node_that_is_frozen_is_left_when_another_one_has_its_slots(
    cluster: Cluster, client: RedisCluster
) -> None:
    first, replica = cluster.nodes[0], cluster.nodes[cluster.masters]
    name = next(name for number in range(100) if ends(cluster, client, name := f"s{number}")[0] == first.port)
    async with Redis(port=first.port) as node:
        pid = (await node.info("server"))["process_id"]
    async with linked(cluster.url, timeout=3) as link:
        assert kinds(await link.run([an_entry(name)])) == [Replied]
        os.kill(pid, signal.SIGSTOP)
        try:
            assert kinds(await link.run([an_entry(name)])) == [Unanswered]
            await on(replica.port, "CLUSTER", "FAILOVER", "TAKEOVER")
            async with asyncio.timeout(120):
                while kinds(await link.run([an_entry(name)])) != [Replied]:
                    pass
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_missing_node_costs_only_its_own_slots(cluster: Cluster, client: RedisCluster) -> None:
    names = [f"s{number}" for number in range(30)]
    async with linked(cluster.url) as link:
        assert kinds(await link.run([an_entry(name) for name in names])) == [Replied] * 30
        cluster.nodes[1].kill()
        try:
            answers = kinds(await link.run([an_entry(name) for name in names]))
        finally:
            cluster.nodes[1].start()
        assert set(answers) == {Replied, Unanswered}
        async with asyncio.timeout(120):
            while kinds(await link.run([an_entry(name) for name in names])) != [Replied] * 30:
                await asyncio.sleep(0.02)
