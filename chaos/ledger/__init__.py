"""From the evidence of a run to its verdict. Pure: `judge` reads data and returns a `Verdict`."""

from __future__ import annotations

from chaos.configuration import Configuration
from chaos.evidence import Evidence
from chaos.ledger.counters import check_counters
from chaos.ledger.groups import check_groups
from chaos.ledger.index import EvidenceIndex
from chaos.ledger.leftovers import check_leftovers
from chaos.ledger.order import check_order
from chaos.ledger.outcomes import check_outcomes
from chaos.ledger.rates import check_rates
from chaos.ledger.verdict import Verdict, Violation

__all__ = ["Verdict", "Violation", "judge"]


def judge(evidence: Evidence, configuration: Configuration) -> Verdict:
    """Check all promises against the evidence."""
    index = EvidenceIndex(evidence)
    violations = [
        *check_outcomes(index),
        *check_order(index),
        *check_rates(index, configuration),
        *check_groups(index),
        *check_counters(index),
        *check_leftovers(evidence),
    ]
    return Verdict(index, violations)
