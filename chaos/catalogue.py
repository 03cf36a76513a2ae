"""The faults by name: target, duration, and the anomalies that each one explains. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

HOSTS = ("w0", "w1", "w2", "w3")
"""Worker hosts. The last one is a supervisor with two processes, the others are one process each."""

SUPERVISED = "w3"
LOG_FILE_HOSTS, LOG_PIPE_HOSTS = HOSTS[:2], HOSTS[2:]
"""Hosts whose workers log to a file, and to a pipe that the run reads."""

CLOCK_HOST = "w0"
"""The host whose clock can be set."""

ALL = frozenset({"single", "sentinel", "cluster"})
SINGLE = frozenset({"single"})


@dataclass(frozen=True, slots=True)
class FaultKind:
    """`on` is the kind of target (redis, host, provider, fleet, group). Faults never overlap on a target.

    `seconds` is the range of the duration. `doubles`: an accepted message may arrive again, because its
    worker could not record the delivery. `late`: claimed messages may arrive later than their tokens allow.
    `clock`: timestamps are unreliable meanwhile. `fails_over`: writes that Redis acknowledged may be lost.
    """

    name: str
    on: str
    seconds: tuple[float, float]
    topologies: frozenset[str] = ALL
    targets: tuple[str, ...] = ("",)
    doubles: bool = False
    late: bool = False
    clock: bool = False
    fails_over: bool = False
    weight: int = 1


_UNLIMITED = ("hook", "fan", "remembering")
_RECEIVERS = (*_UNLIMITED, "limited", "pusher", "changing")


def _kinds() -> list[FaultKind]:
    brief, short, instant = (0.3, 1.5), (0.8, 3.0), (0.0, 0.0)
    return [
        # Workers
        FaultKind("kill worker", "host", instant, targets=HOSTS[:3], doubles=True, late=True, weight=2),
        FaultKind(
            "kill worker of supervisor", "host", instant, targets=(SUPERVISED,), doubles=True, late=True
        ),
        FaultKind(
            "kill supervisor and group", "host", instant, targets=(SUPERVISED,), doubles=True, late=True
        ),
        FaultKind("freeze worker", "host", (0.5, 4), targets=HOSTS[:3], doubles=True, late=True),
        FaultKind("freeze beyond lease", "host", (12, 14), targets=HOSTS[:3], doubles=True, late=True),
        FaultKind(
            "hang worker of supervisor", "host", (33, 36), targets=(SUPERVISED,), doubles=True, late=True
        ),
        FaultKind("rolling restart", "host", instant, targets=HOSTS, late=True),
        FaultKind("add and remove a host", "fleet", short, late=True),
        # The machine under a worker
        FaultKind("full log disk", "host", short, targets=LOG_FILE_HOSTS),
        FaultKind("closed log pipe", "host", short, targets=LOG_PIPE_HOSTS),
        FaultKind("blocked log pipe", "host", short, targets=LOG_PIPE_HOSTS),
        FaultKind("few descriptors", "host", short, targets=HOSTS, late=True),
        FaultKind("package replaced", "host", short, targets=HOSTS, late=True),
        # Redis
        FaultKind("kill Redis", "redis", brief, SINGLE, late=True),
        FaultKind("freeze Redis", "redis", short, SINGLE, late=True),
        FaultKind("flush scripts", "redis", instant),
        FaultKind("kill clients", "redis", instant, late=True),
        FaultKind("out of memory", "redis", brief, late=True),
        FaultKind("busy script", "redis", brief, late=True),
        FaultKind("too many clients", "redis", brief, SINGLE, late=True),
        FaultKind("pause clients", "redis", brief, late=True),
        FaultKind(
            "fail over",
            "redis",
            instant,
            frozenset({"sentinel", "cluster"}),
            late=True,
            fails_over=True,
            doubles=True,
            weight=2,
        ),
        FaultKind(
            "kill master",
            "redis",
            (1, 2),
            frozenset({"sentinel", "cluster"}),
            late=True,
            fails_over=True,
            doubles=True,
            weight=2,
        ),
        FaultKind("move slots", "redis", instant, frozenset({"cluster"}), late=True),
        # Neighbours on the same Redis
        FaultKind("wrong-type key", "provider", brief, SINGLE, targets=_RECEIVERS, late=True),
        FaultKind("100 MB element", "fleet", instant, SINGLE, late=True),
        # Network between one host and Redis
        FaultKind("cut", "host", brief, SINGLE, targets=HOSTS, late=True),
        FaultKind("stall", "host", short, SINGLE, targets=HOSTS, late=True),
        FaultKind("stall beyond lease", "host", (12, 14), SINGLE, targets=HOSTS, late=True, doubles=True),
        FaultKind("lose answers", "host", brief, SINGLE, targets=HOSTS, late=True),
        FaultKind("delay", "host", short, SINGLE, targets=HOSTS, late=True),
        # Providers
        FaultKind("server errors", "provider", short, targets=_RECEIVERS),
        FaultKind("throttle", "provider", brief, targets=_RECEIVERS),
        FaultKind("slow answers", "provider", short, targets=_RECEIVERS),
        FaultKind("hang", "provider", brief, targets=_RECEIVERS),
        FaultKind("garbage", "provider", brief, targets=_UNLIMITED),
        FaultKind("reset", "provider", brief, targets=_UNLIMITED),
        FaultKind("endless early hints", "provider", brief, targets=_UNLIMITED),
        FaultKind("endless headers", "provider", brief, targets=_UNLIMITED),
        FaultKind("dripping answer", "provider", brief, targets=_UNLIMITED),
        FaultKind("refuse connections", "provider", brief, targets=_UNLIMITED),
        # Clocks
        FaultKind("step Redis clock", "redis", short, SINGLE, late=True, clock=True),
        FaultKind("step worker clock", "host", short, targets=(CLOCK_HOST,), clock=True),
        # Operators
        FaultKind("reload", "fleet", instant, late=True),
        FaultKind("reload a bad file", "host", instant, targets=HOSTS[:3], late=True),
        FaultKind("bad reload, then a kill", "host", instant, targets=(SUPERVISED,), doubles=True, late=True),
        FaultKind("pause and resume", "provider", short, targets=_RECEIVERS),
        FaultKind("dead retry", "fleet", instant),
        # Groups: each fails for the whole run, and none is chosen at random
        FaultKind("group refuses connections", "group", instant, targets=("refusing",), weight=0),
        FaultKind("group hangs", "group", instant, targets=("hanging",), weight=0),
        FaultKind("group throttles", "group", instant, targets=("throttling",), weight=0),
        FaultKind("group answers with errors", "group", instant, targets=("erring",), weight=0),
    ]


KINDS = {kind.name: kind for kind in _kinds()}


def resource(name: str, target: str) -> str:
    """Return the resource that the fault holds exclusively."""
    return target or KINDS[name].on


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of a plan. `at` and `seconds` are in seconds; the fault interprets `amount` (0 to 1)."""

    at: float
    seconds: float
    name: str
    target: str = ""
    amount: float = field(default=0.5)

    def __str__(self) -> str:
        length = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:7.1f} s  {self.name}{length}{' at ' + self.target if self.target else ''}"
