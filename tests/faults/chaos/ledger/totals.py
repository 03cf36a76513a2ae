"""What the lanes counted adds up, and agrees with what was seen."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.chaos.ledger.account import Account
from tests.faults.chaos.ledger.verdict import Violation

ENDS = ("delivered", "failed", "expired", "unregistered", "cancelled", "collapsed", "dropped")


def check_totals(account: Account) -> Iterator[Violation]:
    """All that a lane accepted, or took back from the dead letters, ended there."""
    for provider, counted in account.evidence.counters.items():
        if provider == "fan":  # counts a fan-out as one that comes and many that go
            continue
        came = counted.get("accepted", 0) + counted.get("revived", 0)
        went = sum(counted.get(name, 0) for name in ENDS)
        if came != went:
            yield Violation("counters", f"{provider}: {came} came and {went} went: {dict(counted)}")
        receipts = sum(
            receipt.provider == provider and receipt.outcome == "delivered"
            for receipts in account.receipts.values()
            for receipt in receipts
        )
        silent = sum(
            push.provider == provider and not push.reply_to and "delivered" in account.ends(push)
            for push in account.evidence.pushes.values()
        )
        if counted.get("delivered", 0) != receipts + silent:
            yield Violation(
                "counters",
                f"{provider}: counted {counted.get('delivered', 0)} delivered, seen {receipts + silent}",
            )
