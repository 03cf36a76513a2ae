"""The counters of the lanes add up, and match the evidence."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.ledger.index import EvidenceIndex
from chaos.ledger.verdict import Violation

ENDS = ("delivered", "failed", "expired", "unregistered", "cancelled", "collapsed", "dropped")


def check_counters(index: EvidenceIndex) -> Iterator[Violation]:
    """All messages that a lane accepted, or took back from the dead letters, ended there."""
    for provider, counted in index.evidence.counters.items():
        if provider == "fan":  # a fan-out is counted once when accepted, and once per target when it ends
            continue
        accepted = counted.get("accepted", 0) + counted.get("revived", 0)
        ended = sum(counted.get(name, 0) for name in ENDS)
        if accepted != ended:
            yield Violation(
                "counters", f"{provider}: {accepted} accepted, but {ended} ended: {dict(counted)}"
            )
        receipts = sum(
            receipt.provider == provider and receipt.outcome == "delivered"
            for receipts in index.receipts.values()
            for receipt in receipts
        )
        silent = [
            push.number
            for push in index.evidence.pushes.values()
            if push.provider == provider and not push.has_receipt and "delivered" in index.ends(push)
        ]
        # Deliveries of messages that only a lost master had are not counted.
        least = receipts + sum(index.is_certain(number) for number in silent)
        most = receipts + len(silent)
        if not least <= counted.get("delivered", 0) <= most:
            delivered = counted.get("delivered", 0)
            yield Violation("counters", f"{provider}: counted {delivered} delivered, seen {least} to {most}")
