"""The evidence, sorted by message."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from chaos.catalogue import KINDS
from chaos.evidence import OK, Arrival, Evidence, Letter, Receipt, Window
from chaos.messages import Kind, Push

REACH = 3.0
"""Seconds between an arrival and the moment when its worker has told Redis of it, where nothing is wrong."""


class Account:
    """Who came when, and how it ended."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.arrivals: dict[int, list[Arrival]] = defaultdict(list)
        for arrival in sorted(evidence.arrivals, key=lambda arrival: arrival.at):
            self.arrivals[arrival.number].append(arrival)
        self.receipts: dict[str, list[Receipt]] = defaultdict(list)
        for receipt in evidence.receipts:
            self.receipts[receipt.message_id].append(receipt)
        self.letters: dict[int, list[Letter]] = defaultdict(list)
        for letter in evidence.letters:
            self.letters[letter.number].append(letter)
        self.by_id: dict[str, list[Push]] = defaultdict(list)
        for push in evidence.pushes.values():
            if push.id:
                self.by_id[push.id].append(push)
        self._doubling = [window for window in evidence.windows if KINDS[window.kind].doubles]

    def is_certain(self, number: int) -> bool:
        """Whether Redis acknowledged the push."""
        pushed = self.evidence.pushed.get(number)
        return pushed is not None and pushed.certain

    def accepted(self, number: int) -> list[Arrival]:
        """The arrivals that the receiver took."""
        return [arrival for arrival in self.arrivals.get(number, ()) if arrival.answer == OK]

    def ends(self, push: Push) -> Sequence[str]:
        """How a message ended, as far as it can be told: by its receipts, else by what is to be seen."""
        if push.has_receipt:
            receipts = [receipt.outcome for receipt in self.receipts.get(push.id, ())]
            # Two pushes of one id have two receipts, which do not say which is whose.
            if len(self.by_id[push.id]) > 1:
                return ["delivered"] if self.accepted(push.number) else ["duplicate"] if receipts else []
            return receipts
        letters = self.letters.get(push.number, ())
        if push.kind is Kind.MALFORMED:
            return ["malformed" if letter.malformed else "dead" for letter in letters]
        return ["delivered"] if self.accepted(push.number) else ["dead"] if letters else []

    def explained(self, arrival: Arrival) -> Window | None:
        """The fault for which a message that was taken here may come, or end, a second time."""
        for window in self._doubling:
            if window.host in ("", arrival.host) and (
                window.start - REACH <= arrival.at <= window.end + REACH
            ):
                return window
        return self._begun_before(arrival)

    def _begun_before(self, arrival: Arrival) -> Window | None:
        """The fault that froze a host which had begun to send the message, while another one delivered it."""
        for later in self.arrivals.get(arrival.number, ()):
            if later.at <= arrival.at or later.target != arrival.target:
                continue
            for window in self._doubling:
                is_frozen = window.host == later.host and window.start <= arrival.at <= window.end
                if is_frozen and later.at <= window.end + REACH:
                    return window
        return None

    def undone(self, arrival: Arrival, later: Arrival) -> bool:
        """Whether a message had been taken before a `later` one, and a failover may have undone that."""
        first = next(iter(self.accepted(arrival.number)), arrival)
        return first.at < later.at and any(
            KINDS[window.kind].fails_over and window.start - REACH <= arrival.at <= window.end + REACH
            for window in self.evidence.windows
        )

    def clock_was_off(self, start: float, end: float) -> bool:
        """Whether somebody's clock was set in that time."""
        return any(
            KINDS[window.kind].clock and window.overlaps(start, end) for window in self.evidence.windows
        )

    def late(self, start: float, end: float) -> int:
        """How many hosts may have sent late what they had been handed in that time."""
        hosts = 0
        for window in self.evidence.windows:
            kind = KINDS[window.kind]
            if kind.late and window.overlaps(start - REACH, end):
                hosts += 1 if window.host else 4
        return hosts
