"""All key names. No other module builds one.

All keys of a lane share the hash tag of its provider, and all keys about a queue have the slot of the
application's list, so each script runs on one Redis Cluster slot.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from relay.names import key_beside

LANE_PARTS: Mapping[str, str] = {
    "control": "hash",  # sequence, buckets, pause, hold, breaker, counters
    "bodies": "hash",  # ticket -> record
    "large": "hash",  # ticket -> empty: messages without a header whose records scripts need not read
    "tries": "hash",  # ticket -> attempts:deliveries:crashes:alone, or more, see blame.lua and attempts.py
    "ids": "hash",  # the application's id -> ticket, while pending
    "ready:high": "list",  # tickets
    "ready:normal": "list",
    "ready:low": "list",
    "due": "zset",  # ticket by the earliest time, in milliseconds
    "dead": "stream",  # dead letters
    "collapse": "hash",  # collapse key -> the ticket that waits under it
    "ordering": "hash",  # ordering key -> the ticket that may be claimed
    "blocked": "zset",  # by name: messages that wait for their ordering key
    "seen": "zset",  # recently delivered ids, by expiry in milliseconds
    "outbox": "stream",  # receipts and feedback for keys in other slots
    "fans": "hash",  # ticket of a fan-out -> its progress
    "targets": "hash",  # ticket of a fan-out:chunk -> its remaining targets
    "fan-outs:high": "list",  # tickets of fan-outs that are being expanded
    "fan-outs:normal": "list",
    "fan-outs:low": "list",
    "waiting:high": "zset",  # by name: messages that wait for the turn of their group
    "waiting:normal": "zset",
    "waiting:low": "zset",
    "rotation:high": "zset",  # by name: groups that may send
    "rotation:normal": "zset",
    "rotation:low": "zset",
    "groups": "hash",  # group -> its buckets, hold, breaker, pause: only if there is something to remember
    "groups:due": "zset",  # group by the time of the next check, in milliseconds
    "groups:in-flight": "hash",  # group -> its messages in flight, over all workers
    "groups:tried": "hash",  # group -> whether one of its messages was delivered, since a failure in the lane
    "suspects": "hash",  # ticket -> why the provider refused it, until the lane knows who is to blame
    "journal": "stream",  # messages that have ended, and failed attempts
    "statistics": "hash",  # counters at the last sample, and the last flush of each worker
    "holds": "stream",  # holds and pauses that are over
}
"""The parts of a lane, each with the type of its key. Scripts get those that they name, in this order."""


def lane_base(prefix: str, provider: str) -> str:
    """Return the prefix of every key of a lane."""
    return f"{prefix}:{{{provider}}}:"


def control_key(prefix: str, provider: str) -> str:
    """Return the control hash of a lane."""
    return lane_base(prefix, provider) + "control"


def replay_lock(stream: str, entry: str) -> str:
    """String: set for a minute while a dead letter is replayed into another slot of a cluster."""
    return f"{stream}:replaying:{entry}"


def batch_id_of(worker: str, queue: str) -> str:
    """Return the field of a control hash with the sequence number of a worker's last fetch from a queue."""
    return f"batch:{worker}:{queue}"


def flush_of(worker: str) -> str:
    """Return the field of a statistics hash with the number of a worker's last flush."""
    return f"flush:{worker}"


@dataclass(frozen=True, slots=True)
class LaneKeys:
    """The keys of one provider's lane. `shared` has the order of `LANE_PARTS`."""

    shared: tuple[str, ...]
    base: str

    @classmethod
    def of(cls, prefix: str, provider: str) -> LaneKeys:
        base = lane_base(prefix, provider)
        return cls(tuple(base + part for part in LANE_PARTS), base)

    def of_script(self, parts: Collection[str]) -> tuple[str, ...]:
        """Return the keys that a script names (`Script.lane_parts`), in its order."""
        return tuple(key for part, key in zip(LANE_PARTS, self.shared, strict=True) if part in parts)

    def part(self, name: str) -> str:
        return self.base + name

    @property
    def replicated(self) -> str:
        """String: when it arrives at a replica, all earlier writes have arrived too."""
        return self.base + "replicated"

    @property
    def unreadable(self) -> str:
        """Stream: unreadable entries of the outbox, the newest 1,000, cut to 4 KiB each."""
        return self.base + "outbox:unreadable"

    @property
    def types(self) -> dict[str, str]:
        """Each key that exists once, with its Redis type."""
        parts = {self.base + part: kind for part, kind in LANE_PARTS.items()}
        return parts | {self.replicated: "string", self.unreadable: "stream"}

    def statistics(self, unit: str, start: int) -> str:
        """Hash: the statistics of the `minute` or `hour` that starts at this Unix second. It expires."""
        return f"{self.base}statistics:{unit}:{start}"

    def inflight(self, worker: str) -> str:
        """Hash: ticket -> the claim of this worker."""
        return f"{self.base}inflight:{worker}"


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys about one of the applications' lists, in the slot of that list."""

    queue: str
    base: str

    @classmethod
    def of(cls, prefix: str, queue: str) -> QueueKeys:
        return cls(queue, key_beside(prefix, queue))

    @property
    def rejected(self) -> str:
        """Stream: elements that belong to no provider, raw."""
        return self.base + "rejected"

    def processing(self, worker: str) -> str:
        """List: elements that this worker has fetched and not yet enqueued in lanes."""
        return f"{self.base}processing:{worker}"

    @property
    def staged(self) -> str:
        """List: elements that blocking waits have moved off the queue; they are fetched first."""
        return self.base + "staged"

    @property
    def outstanding(self) -> str:
        """Sorted set: worker by the number of the fetch that it has not yet enqueued."""
        return self.base + "outstanding"

    @property
    def deferred(self) -> str:
        """Hash: its fields are the providers that have elements in `deferred_for`."""
        return self.base + "deferred"

    def deferred_for(self, provider: str) -> str:
        """List: elements that wait until the lane of a provider accepts messages again."""
        return f"{self.base}deferred:{provider}"

    def recoverers(self, worker: str) -> str:
        """Hash: its fields are the workers that have started to recover the fetch of this dead worker."""
        return f"{self.base}recoverers:{worker}"

    @property
    def last_sequence(self) -> str:
        """String: the number of the newest fetch of the queue."""
        return self.base + "last_sequence"

    @property
    def types(self) -> dict[str, str]:
        """Each key that exists once, with its Redis type."""
        return {
            self.queue: "list",
            self.rejected: "stream",
            self.staged: "list",
            self.outstanding: "zset",
            self.deferred: "hash",
            self.last_sequence: "string",
        }

    def sequence(self, worker: str) -> str:
        """String: the number of the fetch on this worker's processing list."""
        return f"{self.base}sequence:{worker}"


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """The keys that belong to no provider and no queue."""

    prefix: str

    @property
    def workers(self) -> str:
        """Sorted set: worker by the millisecond of its last heartbeat."""
        return f"{self.prefix}:{{fleet}}:workers"

    @property
    def gone(self) -> str:
        """Sorted set: workers that left or were recovered, by the time in milliseconds."""
        return f"{self.prefix}:{{fleet}}:gone"

    @property
    def scratch(self) -> str:
        """Any type, during one script: a joining worker tries its commands on this key."""
        return f"{self.prefix}:{{fleet}}:scratch"

    @property
    def profiles(self) -> str:
        """Hash: worker -> JSON with its host, pid, version, start, lanes and queues."""
        return f"{self.prefix}:{{fleet}}:profiles"

    @property
    def lanes(self) -> str:
        """Hash: every provider that a worker has served, until its lane is empty and no file names it."""
        return f"{self.prefix}:{{fleet}}:lanes"

    @property
    def queues(self) -> str:
        """Hash: the same for queues."""
        return f"{self.prefix}:{{fleet}}:queues"

    @property
    def lane_settings(self) -> str:
        """Hash: digest of a configuration -> JSON with its lanes and queues, without secrets."""
        return f"{self.prefix}:{{fleet}}:lane-settings"

    @property
    def audit(self) -> str:
        """Stream: actions of operators, the newest 10,000."""
        return f"{self.prefix}:{{fleet}}:audit"

    @property
    def recovery_lock(self) -> str:
        """String: held for a few seconds by the process that recovers dead workers."""
        return f"{self.prefix}:{{fleet}}:recovery"

    @property
    def alerts(self) -> str:
        """String: JSON with the alerts that hold, and their messages that are not in a lane yet."""
        return f"{self.prefix}:{{fleet}}:alerts"

    @property
    def alerts_lock(self) -> str:
        """String: held for a few seconds by the worker that checks for alerts."""
        return f"{self.prefix}:{{fleet}}:alerts-lock"

    @property
    def alert_tests(self) -> str:
        """List: the receipts of `relay alerts test`, the newest 100."""
        return f"{self.prefix}:{{fleet}}:alert-tests"

    @property
    def reload(self) -> str:
        """String: the last request that all processes read their configuration files again. It expires."""
        return f"{self.prefix}:{{fleet}}:reload"

    @property
    def drains(self) -> str:
        """Hash: worker -> JSON with the order of an operator to take no messages."""
        return f"{self.prefix}:{{fleet}}:drains"

    @property
    def ended_sessions(self) -> str:
        """Sorted set: sessions of the console that a log-out has ended, by their natural end. It expires."""
        return f"{self.prefix}:{{fleet}}:ended-sessions"

    @property
    def probe(self) -> str:
        """Never written: `relay check` tries rights on this key."""
        return f"{self.prefix}:{{check}}:probe"

    @property
    def feedback(self) -> str:
        """Stream: targets that are gone. Applications delete them from their own data."""
        return f"{self.prefix}:feedback"

    @property
    def types(self) -> dict[str, str]:
        """Each key with its Redis type."""
        return {
            self.workers: "zset",
            self.gone: "zset",
            self.profiles: "hash",
            self.lanes: "hash",
            self.queues: "hash",
            self.lane_settings: "hash",
            self.recovery_lock: "string",
            self.audit: "stream",
            self.reload: "string",
            self.drains: "hash",
            self.ended_sessions: "zset",
            self.alerts: "string",
            self.alerts_lock: "string",
            self.alert_tests: "list",
            self.feedback: "stream",
        }

    @property
    def wake(self) -> str:
        """Pub/sub channel: names of lanes that have messages to claim."""
        return f"{self.prefix}:wake"
