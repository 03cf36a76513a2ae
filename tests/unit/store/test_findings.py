"""Findings about the state that a Redis reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, OutOfMemoryError, ResponseError

from relay.store.findings import Facts, Finding, Level, judge, merge
from relay.store.rights import COMMANDS, OPTIONAL, judge_rights

SCRIPTS = Path(__file__).parents[3] / "relay/store/scripts"
GIB = 1 << 30
GOOD: dict[str, Any] = {
    "redis_version": "7.0.15",
    "role": "master",
    "cluster_enabled": 0,
    "loading": 0,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "maxmemory_policy": "noeviction",
    "used_memory": 1 * GIB,
    "maxmemory": 4 * GIB,
    "connected_clients": 10,
    "maxclients": 10_000,
}
CONFIG = {"save": "", "timeout": "0"}


def bad(facts: Facts) -> list[tuple[Level, str, str]]:
    return [
        (one.level, one.subject, one.text)
        for one in judge(facts)
        if one.level not in (Level.OK, Level.UNKNOWN)
    ]


def test_a_redis_as_it_should_be_has_no_bad_finding() -> None:
    assert bad(Facts(GOOD, CONFIG, 0.2)) == []
    assert bad(Facts({**GOOD, "cluster_enabled": 1}, None, 0.2, cluster=True)) == []


@pytest.mark.parametrize(
    ("info", "level", "subject", "text"),
    [
        ({"redis_version": "6.0.16"}, Level.FAILED, "version", "Redis 6.0.16 is too old: install Redis 6.2"),
        (
            {"role": "slave", "master_host": "h", "master_port": 7},
            Level.FAILED,
            "role",
            "put h:7 into redis.url",
        ),
        ({"cluster_enabled": 1}, Level.FAILED, "cluster", "write redis+cluster://"),
        ({"loading": 1, "loading_eta_seconds": 9}, Level.WARNING, "loading", "in about 9 s; workers wait"),
        ({"aof_last_write_status": "err"}, Level.FAILED, "persistence", "free space on its disk"),
        ({"rdb_last_bgsave_status": "err"}, Level.WARNING, "persistence", "may refuse writes (MISCONF)"),
        ({"aof_enabled": 0}, Level.WARNING, "persistence", "loses every message in it; set `appendonly yes`"),
        ({"maxmemory_policy": "allkeys-lru"}, Level.WARNING, "eviction", "deletes queues and lanes"),
        ({"maxmemory_policy": "volatile-ttl"}, Level.WARNING, "eviction", "deletes keys with an expiry"),
        (
            {"used_memory": 3.5 * GIB},
            Level.WARNING,
            "memory",
            "3.5 GiB of 4 GiB, maxmemory, are used; at the",
        ),
        (
            {"maxmemory": 0, "total_system_memory": 1 * GIB},
            Level.WARNING,
            "memory",
            "of 1 GiB, the host's memory (maxmemory is not set)",
        ),
        ({"connected_clients": 9000}, Level.WARNING, "clients", "9000 of 10000 connections are in use"),
    ],
)
def test_each_trouble_is_a_finding(info: dict[str, Any], level: Level, subject: str, text: str) -> None:
    ((found_level, found_subject, found_text),) = bad(Facts({**GOOD, **info}, CONFIG, 0.0))
    assert (found_level, found_subject) == (level, subject)
    assert text in found_text


def test_snapshots_alone_lose_less_than_nothing_and_more_than_a_log() -> None:
    info = {**GOOD, "aof_enabled": 0}
    assert "only snapshots" in bad(Facts(info, {"save": "3600 1"}))[0][2]
    assert "could not be checked" in bad(Facts(info, None))[0][2]


@pytest.mark.parametrize(("seconds", "text"), [(61.0, "61 s ahead of"), (-6.0, "6 s behind")])
def test_a_clock_that_differs_is_a_warning(seconds: float, text: str) -> None:
    ((level, subject, found),) = bad(Facts(GOOD, CONFIG, seconds))
    assert (level, subject) == (Level.WARNING, "clock")
    assert text in found


def test_a_short_idle_timeout_is_a_warning() -> None:
    ((level, subject, _),) = bad(Facts(GOOD, {"save": "", "timeout": "5"}))
    assert (level, subject) == (Level.WARNING, "timeout")
    assert bad(Facts(GOOD, {"save": "", "timeout": "300"})) == []


def test_a_refused_command_makes_an_unknown_and_no_failure() -> None:
    (first, *rest) = judge(Facts(None, None, 0.0))
    assert first.level is Level.UNKNOWN
    assert "may not run INFO" in first.text
    assert {one.level for one in rest} == {Level.OK}


def test_a_finding_about_some_nodes_of_a_cluster_names_them() -> None:
    same, one = Finding(Level.OK, "eviction", "noeviction"), Finding(Level.WARNING, "memory", "full")
    assert merge({"a:1": [same], "b:2": [same, one]}) == [
        same,
        Finding(Level.WARNING, "memory of b:2", "full"),
    ]


def test_refusals_are_put_together_with_the_rule_that_mends_them() -> None:
    (finding,) = judge_rights(
        [
            (
                ("HKEYS", "relay:{check}:probe"),
                NoPermissionError("User u has no permissions to run the 'hkeys' command"),
            ),
            (("LLEN", "q"), NoPermissionError("No permissions to access a key")),
            (
                ("GET", "relay:{q}:last"),
                NoPermissionError("this user has no permissions to access one of the keys"),
            ),
            (("PUBLISH", "relay:wake", ""), NoPermissionError("No permissions to access a channel")),
        ],
        "u",
        "relay",
    )
    assert finding.level is Level.FAILED
    assert finding.text.endswith("ACL SETUSER u +hkeys '~q' '~relay:*' '&relay:wake'")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "raise maxmemory"),
        (ResponseError("MISCONF Errors writing to the AOF file"), "cannot save to disk (MISCONF)"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "lower min-replicas-to-write"),
        (ResponseError("unknown command 'EVAL', with args beginning with: "), "Redis has no command EVAL"),
    ],
)
def test_a_refusal_of_writes_names_the_remedy(error: Exception, text: str) -> None:
    (finding,) = judge_rights([(("EVAL", "return 1", "1", "k"), error)], "u", "relay")
    assert finding.level is Level.FAILED
    assert text in finding.text


def test_every_command_of_the_scripts_is_tried() -> None:
    called = re.compile(r"\bcall\(\s*'([A-Z]+)'")
    texts = {path.name: path.read_text() for path in SCRIPTS.rglob("*.lua")}
    assert texts
    for name, text in texts.items():
        assert set(called.findall(text)) <= {*COMMANDS, *OPTIONAL, "TIME", "PUBLISH"}, name


def test_a_worker_that_joins_tries_every_command_of_the_scripts() -> None:
    """A script would fail halfway if the right to one of its commands was missing."""
    tried = set(re.findall(r"\{'([A-Z]+)'", (SCRIPTS / "heartbeat.lua").read_text()))
    for path in SCRIPTS.rglob("*.lua"):
        called = set(re.findall(r"(?<!\.)\bcall\(\s*'([A-Z]+)'", path.read_text()))
        assert called <= {*tried, *OPTIONAL, "TIME", "PUBLISH"}, path.name
