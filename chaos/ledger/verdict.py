"""The result: violations, and the outcomes of all messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.ledger.index import EvidenceIndex


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the rule, the observation, and if it is about one message, its number and time."""

    rule: str
    what: str
    number: int | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The violations; none if the run is good."""

    index: EvidenceIndex
    violations: Sequence[Violation]

    def table(self) -> dict[str, Counter[str]]:
        """Count outcomes by kind of message."""
        rows: dict[str, Counter[str]] = {}
        for number, push in sorted(self.index.evidence.pushes.items()):
            ends = self.index.ends(push)
            if ends:
                end = " then ".join(dict.fromkeys(ends))
            else:
                pushed = self.index.evidence.pushed.get(number)
                end = "LOST" if pushed and pushed.certain else "push not acknowledged"
            rows.setdefault(push.kind.value, Counter())[end] += 1
        return rows
