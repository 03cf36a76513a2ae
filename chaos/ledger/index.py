"""The evidence, indexed by message."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from chaos.catalogue import KINDS
from chaos.evidence import OK, Arrival, DeadLetter, Evidence, Receipt, Window
from chaos.messages import Kind, Push

TOLERANCE = 3.0
"""Seconds until a worker has recorded a delivery in Redis, without any fault."""


class EvidenceIndex:
    """Arrivals, receipts and dead letters of each message."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.arrivals: dict[int, list[Arrival]] = defaultdict(list)
        for arrival in sorted(evidence.arrivals, key=lambda arrival: arrival.at):
            self.arrivals[arrival.number].append(arrival)
        self.receipts: dict[str, list[Receipt]] = defaultdict(list)
        for receipt in evidence.receipts:
            self.receipts[receipt.message_id].append(receipt)
        self.letters: dict[int, list[DeadLetter]] = defaultdict(list)
        for letter in evidence.letters:
            self.letters[letter.number].append(letter)
        self.by_id: dict[str, list[Push]] = defaultdict(list)
        for push in evidence.pushes.values():
            if push.id:
                self.by_id[push.id].append(push)
        self._doubling = [window for window in evidence.windows if KINDS[window.kind].doubles]

    def is_certain(self, number: int) -> bool:
        """Return whether Redis acknowledged the push."""
        pushed = self.evidence.pushed.get(number)
        return pushed is not None and pushed.certain

    def accepted(self, number: int) -> list[Arrival]:
        """Return the arrivals that the receiver accepted."""
        return [arrival for arrival in self.arrivals.get(number, ()) if arrival.answer == OK]

    def ends(self, push: Push) -> Sequence[str]:
        """Return how a message ended: by its receipts, otherwise by arrivals and dead letters."""
        if push.has_receipt:
            receipts = [receipt.outcome for receipt in self.receipts.get(push.id, ())]
            # The receipts of two pushes with the same id cannot be distinguished.
            if len(self.by_id[push.id]) > 1:
                return ["delivered"] if self.accepted(push.number) else ["duplicate"] if receipts else []
            return receipts
        letters = self.letters.get(push.number, ())
        if push.kind is Kind.MALFORMED:
            return ["malformed" if letter.malformed else "dead" for letter in letters]
        return ["delivered"] if self.accepted(push.number) else ["dead"] if letters else []

    def explained(self, arrival: Arrival) -> Window | None:
        """Return the fault that explains a second arrival, or a second end, of an accepted message."""
        for window in self._doubling:
            if window.host in ("", arrival.host) and (
                window.start - TOLERANCE <= arrival.at <= window.end + TOLERANCE
            ):
                return window
        return self._started_before(arrival)

    def _started_before(self, arrival: Arrival) -> Window | None:
        """Return the fault that froze a host while it was sending the message, which another host then
        delivered."""
        for later in self.arrivals.get(arrival.number, ()):
            if later.at <= arrival.at or later.target != arrival.target:
                continue
            for window in self._doubling:
                is_frozen = window.host == later.host and window.start <= arrival.at <= window.end
                if is_frozen and later.at <= window.end + TOLERANCE:
                    return window
        return None

    def undone(self, arrival: Arrival, later: Arrival) -> bool:
        """Return whether a failover may have undone the acceptance of a message before the `later` one."""
        first = next(iter(self.accepted(arrival.number)), arrival)
        return first.at < later.at and any(
            KINDS[window.kind].fails_over and window.start - TOLERANCE <= arrival.at <= window.end + TOLERANCE
            for window in self.evidence.windows
        )

    def clock_was_off(self, start: float, end: float) -> bool:
        """Return whether a clock was off in that time."""
        return any(
            KINDS[window.kind].clock and window.overlaps(start, end) for window in self.evidence.windows
        )

    def late(self, start: float, end: float) -> int:
        """Return how many hosts may have sent claimed messages late in that time."""
        hosts = 0
        for window in self.evidence.windows:
            kind = KINDS[window.kind]
            if kind.late and window.overlaps(start - TOLERANCE, end):
                hosts += 1 if window.host else 4
        return hosts
