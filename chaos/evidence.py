"""What a run leaves behind for the ledger: plain data, times in Unix seconds of the harness's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaos.messages import Push

OK = "ok"
"""The answer of a receiver that took the message; all others are reasons to send it again."""


@dataclass(slots=True)
class Arrival:
    """One message (or one target of a fan-out) at a receiver. `answer` is how the receiver ended it:
    ok, refused, throttled, failed, reset, garbage, flood, drip, hung, or aborted if the worker left first."""

    number: int
    provider: str
    host: str
    at: float
    target: str = ""
    answer: str = "aborted"
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Pushed:
    """When the push of a message was asked for and answered. `certain` is false where no answer came: such
    a message may be there or not, but never twice."""

    asked: float
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


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: where it lay, which message it is and why. `malformed`: it was none."""

    stream: str
    number: int
    reason: str
    malformed: bool


@dataclass(frozen=True, slots=True)
class Window:
    """A fault as it happened. `host` or `provider` says whom it hit; empty: everybody."""

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
    """All of it. `lags` are moments at which the harness itself was late, as (time, seconds)."""

    pushes: Mapping[int, Push]
    pushed: dict[int, Pushed] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    counters: dict[str, Mapping[str, int]] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    """Every key that is left in Redis, by its number of entries."""
    workers: list[str] = field(default_factory=list)
    """Workers that are still registered, and those that are remembered as gone."""
    log: list[str] = field(default_factory=list)
    """Lines of workers' logs that no worker should write."""
    broken: list[str] = field(default_factory=list)
    """What the run itself could not bring to its end: lanes that never got empty, bad exit codes."""
    lags: list[tuple[float, float]] = field(default_factory=list)
    giants: int = 0
    """Elements of 100 MB that Redis acknowledged."""
    unsure_giants: int = 0
    """Elements of 100 MB for which no answer came."""
    retried: int = 0
    """How often `relay dead retry` was run."""

    def near(self, at: float, seconds: float = 3.0) -> Sequence[Window]:
        """The faults near a moment."""
        return [window for window in self.windows if window.overlaps(at - seconds, at + seconds)]
