"""The evidence of a run: plain data. Times are in Unix seconds of the harness's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaos.messages import Push

OK = "ok"
"""The answer of a receiver that accepted the message. After any other answer, the message may be sent
again."""


@dataclass(slots=True)
class Arrival:
    """One message (or one target of a fan-out) at a receiver.

    `answer` is how the receiver ended the request: ok, refused, throttled, failed, reset, garbage, flood,
    drip, hung, or aborted if the worker closed the connection first;
    `ended` is the time of that.
    """

    number: int
    provider: str
    host: str
    at: float
    target: str = ""
    answer: str = "aborted"
    message_id: str = ""
    group: str = ""
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """The times of a push and of Redis's answer.

    `certain` is false if there was no answer: such a message exists once or not at all.
    """

    started: float
    at: float
    certain: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """One entry of a `reply_to` list."""

    message_id: str
    provider: str
    outcome: str
    reason: str
    attempts: int
    at: float
    targets: Mapping[str, int] = field(default_factory=dict)
    status: int | None = None
    """The HTTP status of the last answer, if there was one."""
    provider_id: str | None = None
    """The provider's own id of the message."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter: its stream, the number of its message, and the reason. `malformed`: it is not a
    message."""

    stream: str
    number: int
    reason: str
    malformed: bool


@dataclass(frozen=True, slots=True)
class Window:
    """The duration of a fault. `host` or `provider` is its target; if both are empty, it affects
    everything."""

    kind: str
    start: float
    end: float
    host: str = ""
    provider: str = ""
    note: str = ""

    def overlaps(self, start: float, end: float) -> bool:
        return self.start <= end and start <= self.end


@dataclass
class Evidence:
    """All evidence. `lags` are moments at which the harness itself was late, as (time, seconds)."""

    pushes: Mapping[int, Push]
    pushed: dict[int, Pushed] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    counters: dict[str, Mapping[str, int]] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    """Keys that are left in Redis, with their numbers of entries."""
    workers: list[str] = field(default_factory=list)
    """Workers that are still registered, and those recorded as gone."""
    log: list[str] = field(default_factory=list)
    """Log lines that no worker should write."""
    broken: list[str] = field(default_factory=list)
    """Steps of the run that did not succeed: lanes that did not become empty, bad exit codes."""
    lags: list[tuple[float, float]] = field(default_factory=list)
    giants: int = 0
    """Elements of 100 MB that Redis acknowledged."""
    unsure_giants: int = 0
    """Elements of 100 MB without an answer."""
    retried: int = 0
    """The number of runs of `relay dead retry`."""

    def near(self, at: float, seconds: float = 3.0) -> Sequence[Window]:
        """Return the faults near a moment."""
        return [window for window in self.windows if window.overlaps(at - seconds, at + seconds)]
