"""Decides which workers of a fleet are dead."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from relay.store.fleet import LEASE, Member, WorkerInfo


class FailureDetector:
    """Measures the silence of each worker by our own clock, as long as Redis answers.

    Redis's clock may be changed, and after an outage every heartbeat is old: neither makes a worker dead.
    """

    def __init__(self, own: WorkerInfo, gap: float) -> None:
        """`own` is the worker that checks the others. After more than `gap` seconds between two checks,
        earlier heartbeats prove nothing: Redis was unreachable, or this worker was suspended."""
        self._own = own
        self._gap = gap
        self._since: dict[str, tuple[float, float]] = {}
        """By worker: its last heartbeat, and when that was first seen, in monotonic seconds."""
        self._checked = 0.0

    def check(self, members: Iterable[Member], now: float) -> set[str]:
        """Return the names of the dead workers. `now` is in monotonic seconds."""
        if now - self._checked > self._gap:
            self._since.clear()
        self._checked = now
        since, dead = {}, set[str]()
        for member in members:
            worker = member.info.worker
            known = self._since.get(worker)
            since[worker] = known if known and known[0] == member.beat else (member.beat, now)
            if now - since[worker][1] > LEASE or self._has_ended(member.info):
                dead.add(worker)
        self._since = since
        return dead - {self._own.worker}

    def clear(self) -> None:
        """Redis failed, so that earlier heartbeats prove nothing."""
        self._since.clear()

    def _has_ended(self, worker: WorkerInfo) -> bool:
        # Under the same kernel there is no need to wait for the end of the lease.
        return bool(worker.host_id) and worker.host_id == self._own.host_id and not _is_running(worker.pid)


def host_id() -> str:
    """Return a name for this kernel and process namespace, in which a pid means the same process."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts) if len(parts) == 2 else ""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
