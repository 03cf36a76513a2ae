"""From the evidence of a run to its verdict. Pure: `judge` reads data and returns a `Verdict`."""

from __future__ import annotations

from chaos.evidence import Evidence
from chaos.ledger.account import Account
from chaos.ledger.ends import check_ends
from chaos.ledger.order import check_order
from chaos.ledger.rates import check_rates
from chaos.ledger.residue import check_residue
from chaos.ledger.totals import check_totals
from chaos.ledger.verdict import Verdict, Violation
from chaos.setting import Setting

__all__ = ["Verdict", "Violation", "judge"]


def judge(evidence: Evidence, setting: Setting) -> Verdict:
    """Hold all promises against what happened."""
    account = Account(evidence)
    violations = [
        *check_ends(account),
        *check_order(account),
        *check_rates(account, setting),
        *check_totals(account),
        *check_residue(evidence),
    ]
    return Verdict(account, violations)
