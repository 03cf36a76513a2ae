"""What comes out: the violations, and how many messages ended how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.ledger.account import Account


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: which rule, what was seen, and where it is about one, which message and when."""

    rule: str
    what: str
    number: int | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All of them; the run is good where there is none."""

    account: Account
    violations: Sequence[Violation]

    def table(self) -> dict[str, Counter[str]]:
        """Kind of message -> how they ended -> how many."""
        rows: dict[str, Counter[str]] = {}
        for number, push in sorted(self.account.evidence.pushes.items()):
            ends = self.account.ends(push)
            if ends:
                end = " then ".join(dict.fromkeys(ends))
            else:
                pushed = self.account.evidence.pushed.get(number)
                end = "LOST" if pushed and pushed.certain else "push not acknowledged"
            rows.setdefault(push.kind.value, Counter())[end] += 1
        return rows
