"""What the lanes counted adds up, and agrees with what was seen."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.ledger.account import Account
from chaos.ledger.verdict import Violation

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
        silent = [
            push.number
            for push in account.evidence.pushes.values()
            if push.provider == provider and not push.has_receipt and "delivered" in account.ends(push)
        ]
        # What only a master had that was lost may have been delivered from there, and is not counted.
        least = receipts + sum(account.is_certain(number) for number in silent)
        most = receipts + len(silent)
        if not least <= counted.get("delivered", 0) <= most:
            delivered = counted.get("delivered", 0)
            yield Violation("counters", f"{provider}: counted {delivered} delivered, seen {least} to {most}")
