"""Nothing is left over after a run: in Redis, in logs, among processes."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.configuration import PREFIX
from chaos.evidence import Evidence
from chaos.ledger.verdict import Violation
from relay.store.keys import LANE_PARTS

STAYS = frozenset(
    {"control", "dead", "seen", "groups", "groups:due", "groups:tried", "holds", "journal", "statistics"}
)
"""Parts of a lane that outlive its messages; `groups:tried` expires, and `groups` remembers failures for the
window of a group's breaker. The others belong to messages."""

PASSING = frozenset(LANE_PARTS) - STAYS
SHARED = frozenset({"forwarded", "replicated", "rejected", "last_sequence"})
FLEET = frozenset(
    {"alerts", "audit", "gone", "lane-settings", "lanes", "profiles", "queues", "recovery", "reload"}
)


def check_leftovers(evidence: Evidence) -> Iterator[Violation]:
    """Check keys, registered workers, log lines, and steps of the run that failed."""
    for key, entries in sorted(evidence.keys.items()):
        if entries and not _may_stay(key, evidence):
            yield Violation("leftover", f"{key} is left with {entries} entries")
    yield from (Violation("leftover", f"{worker} is still registered") for worker in evidence.workers)
    strays = sum(letter.number < 0 for letter in evidence.letters)
    least, most = evidence.giants, evidence.giants + evidence.unsure_giants
    if not least <= strays <= most:
        yield Violation(
            "dead letters", f"{least} to {most} elements of 100 MB were pushed, {strays} became dead letters"
        )
    yield from (Violation("log", line) for line in evidence.log)
    yield from (Violation("unfinished", what) for what in evidence.broken)


def _may_stay(key: str, evidence: Evidence) -> bool:
    if not key.startswith(f"{PREFIX}:"):
        # Receipt lists belong to the harness; queues must be empty.
        return key.startswith("receipts:")
    if key == f"{PREFIX}:feedback":
        return True
    part = key.partition("}:")[2]
    if part.startswith("recoverers:"):
        return True  # of a recoverer that came too late and died: until the recovered worker is forgotten
    if key.startswith(f"{PREFIX}:{{fleet}}:"):
        return part in FLEET
    return part in STAYS or part in SHARED or part.startswith("statistics:")
