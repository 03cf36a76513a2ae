"""Findings about the state that a Redis reports. Pure functions: `preflight` queries Redis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from relay.redis_client.binaries import OLDEST

MEMORY_SHARE = CLIENTS_SHARE = 0.8
"""A warning is given from this share of a limit on."""

CLOCK_DIFFERENCE = 5.0
"""Tolerated difference between Redis's clock and ours, in seconds."""

SHORTEST_IDLE = 60
"""The least `timeout` of Redis (seconds). With a shorter one it closes connections that relay still uses."""


class Level(Enum):
    """Severity of a finding. `UNKNOWN`: it could not be checked."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `relay check --connect`. The text of a bad one includes the remedy."""

    level: Level
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Data of one server: INFO, parts of CONFIG GET, and the difference between the clocks in seconds.

    None: the server refuses the command. `cluster` is True if the URL is one of a cluster.
    """

    info: Mapping[str, Any] | None
    config: Mapping[str, str] | None = None
    clock: float | None = None
    cluster: bool = False


def judge(facts: Facts) -> list[Finding]:
    """Return all findings about one server."""
    found = [*_clock(facts.clock)]
    if facts.info is None:
        return [
            Finding(
                Level.UNKNOWN,
                "server",
                "version, role, memory and persistence could not be checked: this user may not run INFO",
            ),
            *found,
        ]
    info, config = facts.info, facts.config
    return [
        *_version(info),
        *_role(info),
        *_kind(info, cluster=facts.cluster),
        *_loading(info),
        *_persistence(info, config),
        *_eviction(info),
        *_memory(info),
        *_clients(info),
        *_timeout(config),
        *found,
    ]


def _version(info: Mapping[str, Any]) -> Iterator[Finding]:
    valkey = info.get("valkey_version")
    name = f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', 'of an unknown version')}"
    path = info.get("executable")
    number = tuple(
        int(part) for part in str(info.get("redis_version", "0.0")).split(".")[:2] if part.isdigit()
    )
    if number and number < OLDEST:
        yield Finding(Level.FAILED, "version", f"{name} is too old: install Redis 6.2 or later, or Valkey")
    else:
        yield Finding(Level.OK, "version", f"{name}{f' ({path})' if path else ''}")


def _role(info: Mapping[str, Any]) -> Iterator[Finding]:
    if info.get("role") == "slave":
        master = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        yield Finding(
            Level.FAILED,
            "role",
            f"this is a replica of {master}, which accepts no writes: put {master} into redis.url, or name "
            "the sentinels (redis+sentinel://…) if the master moves",
        )
    else:
        yield Finding(Level.OK, "role", "master")


def _kind(info: Mapping[str, Any], *, cluster: bool) -> Iterator[Finding]:
    if info.get("cluster_enabled") and not cluster:
        yield Finding(
            Level.FAILED,
            "cluster",
            "this is a node of a cluster: write redis+cluster:// (or rediss+cluster://) instead of redis:// "
            "in redis.url",
        )


def _loading(info: Mapping[str, Any]) -> Iterator[Finding]:
    if info.get("loading"):
        seconds = info.get("loading_eta_seconds", "?")
        yield Finding(
            Level.WARNING,
            "loading",
            f"Redis is loading its data and answers in about {seconds} s; workers wait for it",
        )


def _persistence(info: Mapping[str, Any], config: Mapping[str, str] | None) -> Iterator[Finding]:
    if info.get("loading"):
        return  # until all data are loaded, INFO shows an append-only file that is off
    bad = False
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        bad = True
        yield Finding(
            Level.FAILED,
            "persistence",
            "Redis could not write its append-only file and refuses writes: free space on its disk, or fix "
            "the rights of the folder",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        bad = True
        yield Finding(
            Level.WARNING,
            "persistence",
            "the last snapshot failed, and Redis may refuse writes (MISCONF): its log has the reason, "
            "often a full disk or too little memory to fork",
        )
    if not info.get("aof_enabled"):
        bad = True
        yield _without_log(config)
    if not bad:
        yield Finding(Level.OK, "persistence", "append-only file")


def _without_log(config: Mapping[str, str] | None) -> Finding:
    advice = "set `appendonly yes` and `appendfsync everysec`, then a crash costs a second at most"
    if config is None or "save" not in config:
        text = f"no append-only file; whether there are snapshots could not be checked: {advice}"
    elif config["save"].strip():
        text = f"only snapshots: a crash of Redis loses all messages since the last one; {advice}"
    else:
        text = f"no append-only file and no snapshots: a crash of Redis loses every message in it; {advice}"
    return Finding(Level.WARNING, "persistence", text)


def _eviction(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", ""))
    if not policy:
        yield Finding(Level.UNKNOWN, "eviction", "Redis does not show its maxmemory-policy")
    elif policy == "noeviction":
        yield Finding(Level.OK, "eviction", "noeviction")
    else:
        what = (
            "keys with an expiry, including relay's record of delivered ids"
            if policy.startswith("volatile")
            else "queues and lanes with all of their messages"
        )
        yield Finding(
            Level.WARNING,
            "eviction",
            f"maxmemory-policy {policy} deletes {what} when memory is short: "
            "set `maxmemory-policy noeviction`",
        )


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    of = "maxmemory"
    if not most:
        most, of = int(info.get("total_system_memory", 0)), "the host's memory (maxmemory is not set)"
    if not most:
        yield Finding(Level.UNKNOWN, "memory", f"{_size(used)} used; Redis shows no limit")
        return
    text = f"{_size(used)} of {_size(most)}, {of}"
    if used >= MEMORY_SHARE * most:
        yield Finding(
            Level.WARNING,
            "memory",
            f"{text}, are used; at the limit applications can no longer push: raise maxmemory, or bound "
            "lanes with `max_backlog`",
        )
    else:
        yield Finding(Level.OK, "memory", f"{text}, are used")


def _clients(info: Mapping[str, Any]) -> Iterator[Finding]:
    connected, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if most and connected >= CLIENTS_SHARE * most:
        yield Finding(
            Level.WARNING,
            "clients",
            f"{connected} of {most} connections are in use; beyond that Redis refuses workers and "
            "applications: raise maxclients, or close idle clients",
        )
    elif most:
        yield Finding(Level.OK, "clients", f"{connected} of {most} connections are in use")


def _timeout(config: Mapping[str, str] | None) -> Iterator[Finding]:
    seconds = int((config or {}).get("timeout") or 0)
    if 0 < seconds < SHORTEST_IDLE:
        yield Finding(
            Level.WARNING,
            "timeout",
            f"Redis closes connections that are idle for {seconds} s, and relay must reconnect:  "
            f"set `timeout 0`, or at least {SHORTEST_IDLE}",
        )


def _clock(difference: float | None) -> Iterator[Finding]:
    if difference is None:
        return
    if abs(difference) > CLOCK_DIFFERENCE:
        direction = "ahead of" if difference > 0 else "behind"
        yield Finding(
            Level.WARNING,
            "clock",
            f"Redis's clock is {abs(difference):.0f} s {direction} this host's; delays and expiry "
            "follow Redis's: run NTP on both",
        )
    else:
        yield Finding(Level.OK, "clock", "within 5 s of this host's")


def merge(by_node: Mapping[str, Iterable[Finding]]) -> list[Finding]:
    """Merge the findings about all nodes of a cluster. Equal findings become one, with the nodes."""
    nodes: dict[Finding, list[str]] = {}
    for node, findings in by_node.items():
        for finding in findings:
            nodes.setdefault(finding, []).append(node)
    return [
        finding
        if len(where) == len(by_node)
        else Finding(finding.level, f"{finding.subject} of {', '.join(where)}", finding.text)
        for finding, where in nodes.items()
    ]


def _size(number: int) -> str:
    size, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.4g} {unit}"
