"""The kind of Redis behind a client."""

from __future__ import annotations

from redis.asyncio import Redis, RedisCluster, Sentinel

from relay.redis_client.topology import Topology


def test_a_single_redis_lets_a_script_use_any_keys() -> None:
    topology = Topology.of(Redis())
    assert topology.is_one
    assert topology.sentinel is None
    assert topology.same_slot("a", "b")


def test_a_master_that_sentinel_names_is_one_redis() -> None:
    master = Sentinel([("127.0.0.1", 1)]).master_for("mymaster")
    topology = Topology.of(master)
    assert topology.is_one
    assert topology.sentinel is master.connection_pool


def test_a_cluster_lets_a_script_use_keys_of_one_slot() -> None:
    topology = Topology.of(RedisCluster("127.0.0.1", 1))
    assert not topology.is_one
    assert topology.same_slot("{a}:b", "{a}:c")
    assert not topology.same_slot("{a}:b", "{b}:b")
