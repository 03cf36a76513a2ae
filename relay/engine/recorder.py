"""Counts the attempts of one lane in memory until they are flushed.

Nothing here waits. A delivered message costs little more than the numbers that are appended to lists; `take`
sorts these into histograms once a second. The journal gets entries of failures, and of a sample of the
deliveries.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from relay.admin.counts import NO_LANE_COUNTS, LaneCounts
from relay.engine.attempts import CLASSES, Attempts
from relay.engine.journal_buffer import JournalBuffer
from relay.outcome import (
    Delivered,
    Failure,
    Faulty,
    Outcome,
    Postponed,
    Rejected,
    Retry,
    Throttled,
    Unauthorised,
    Unregistered,
)
from relay.settings.options import ProviderOptions
from relay.store.claims import Claim
from relay.store.histogram import Histogram
from relay.store.journal import JournalOutcome
from relay.store.recording import LONGEST_REASON, Report
from relay.store.settlement import DeadLettered, Settlement
from relay.store.statistics import MOST_GROUPS, MOST_REASONS, OTHER
from relay.text import alike


@dataclass(frozen=True, slots=True)
class RecorderTuning:
    """Bounds of the memory that a lane takes while Redis is away."""

    most_entries: int = 10_000
    """Entries of the journal that wait for a flush. Beyond it, the oldest ones are dropped."""
    most_in_report: int = 250
    """Entries in one report: Redis serves no other client while it writes them."""
    most_groups: int = 1_000
    """Groups that are counted between two flushes."""


class LaneRecorder:
    """The attempts of one lane in this process."""

    def __init__(
        self, options: ProviderOptions, worker: str = "", *, tuning: RecorderTuning = RecorderTuning()
    ) -> None:
        """`worker` is named in entries of the journal."""
        self.worker = worker
        self.journal = JournalBuffer(options, worker, most=tuning.most_entries)
        self.has_news = False
        """Whether anything was counted that `take` has not returned yet."""
        self.is_at_rest = False
        """Whether Redis found neither messages nor a hold in the lane, and none has arrived since. Set by
        the flusher, cleared by the dispatcher."""
        self._tuning = tuning
        self._clocks = time.time() - time.monotonic()
        """Unix time minus monotonic time, as of the last flush."""

        # Not yet part of the counts. Bounded by the messages that a worker holds while it cannot flush.
        self._requests: tuple[list[float], ...] = tuple([] for _ in range(CLASSES))
        """By class of the status, as are the waits."""
        self._waits: tuple[list[float], ...] = tuple([] for _ in range(CLASSES))
        self._statuses: list[int] = []
        self._delivered_groups: list[str] | None = None if options.group_rules is None else []
        """The groups of delivered messages. None without groups."""

        self._attempts = Attempts()
        self._counts: LaneCounts | None = NO_LANE_COUNTS
        """The attempts for `/metrics`; None if they have changed."""
        self._reported = Attempts()
        """The attempts at the last call of `take`."""

        # New since then.
        self._reasons: dict[str, int] = {}
        self._groups: dict[str, list[int]] = {}
        """By group: delivered and failed attempts."""

    @property
    def attempts(self) -> Attempts:
        """All attempts since the start of the process."""
        if self.has_news:
            self._fold()
        return self._attempts

    @property
    def counts(self) -> LaneCounts:
        """The same for `/metrics`."""
        attempts = self.attempts
        if self._counts is None:
            self._counts = attempts.counts()
        return self._counts

    def answered(
        self, batch: Sequence[Claim], outcomes: Sequence[Outcome], started: float, status: int
    ) -> None:
        """Count a request and its delivered messages. `failed` counts the others, one by one.

        `started` is when the request began, in monotonic seconds; 0 if none was made. `status` is that of the
        answer, or 0.
        """
        self.has_news = True
        now, place = time.monotonic(), status // 100
        if started:
            self._requests[place].append(now - started)
        claims = batch
        if len(batch) > 1 or type(outcomes[0]) is not Delivered:
            claims = [one for one, outcome in zip(batch, outcomes, strict=True) if type(outcome) is Delivered]
        at, waits = now + self._clocks, self._waits[place]
        for claim in claims:
            message = claim.message
            waits.append(at - max(message.created_at, message.deliver_at))
            self._statuses.append(status)
            if self._delivered_groups is not None:
                self._delivered_groups.append(message.group)
        if self.journal.tokens >= 1.0:
            seconds = now - started if started else 0.0
            for claim, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Delivered):
                    self._note_delivery(claim, outcome, at, seconds, status)

    def failed(
        self,
        claim: Claim,
        outcome: Postponed | Failure,
        settlement: Settlement,
        started: float,
        status: int,
    ) -> None:
        """Count an attempt that did not deliver the message. `outcome` has no secrets any more."""
        self.has_news = True
        attempts, now = self._attempts, time.monotonic()
        status = getattr(outcome, "status", 0) or status
        attempts.count_status(status)
        self._count_reason(outcome.reason)
        result, target = _result(outcome, settlement)
        if result is None:
            return
        attempts.failures[result] = attempts.failures.get(result, 0) + 1
        if result != "throttled":
            self._count_group(claim.message.group, failed=1)
        self.journal.note(
            claim,
            result,
            now + self._clocks,
            seconds=now - started if started else 0.0,
            status=status,
            attempt=claim.message.attempts + 1,
            reason=outcome.reason,
            target=target,
        )

    def expired(self, claim: Claim) -> None:
        """Note a message that expired before it was sent. The lane counts it."""
        self.has_news = True
        if self.journal.admit():
            at = time.monotonic() + self._clocks
            self.journal.note(claim, "expired", at, attempt=claim.message.attempts)

    def take(self, number: str) -> Report | None:
        """Return the new counts, under the number of a flush. Returns None if there are none. The caller must
        flush it."""
        if not self.has_news:
            return None
        counts = self.attempts.growth(self._reported)
        if not counts and not self._reasons and not self.journal:
            self.has_news = False
            return None
        self._reported = self._attempts.copy()
        reasons, self._reasons = self._reasons, {}
        groups: dict[str, tuple[int, int]] = {}
        if self._groups:
            largest = sorted(self._groups.items(), key=lambda item: -sum(item[1]))[:MOST_GROUPS]
            groups = {name: (sums[0], sums[1]) for name, sums in largest}
            self._groups = {}
        entries = self.journal.take(self._tuning.most_in_report)
        self.has_news = bool(self.journal)
        return Report(number, counts, reasons, groups, entries)

    def refill(self, seconds: float) -> None:
        """Let the time pass for the sample of the journal, and read the clock again."""
        self._clocks = time.time() - time.monotonic()
        self.journal.refill(seconds)

    def _note_delivery(
        self, claim: Claim, outcome: Delivered, at: float, seconds: float, status: int
    ) -> None:
        """Note a delivered message if it belongs to the sample."""
        if self.journal.admit():
            attempt, provider_id = claim.message.attempts + 1, outcome.provider_id
            self.journal.note(
                claim,
                "delivered",
                at,
                seconds=seconds,
                status=status,
                attempt=attempt,
                provider_id=provider_id,
            )

    def _fold(self) -> None:
        """Add the durations and statuses that were appended to the counts."""
        self._counts = None
        attempts = self._attempts
        attempts.delivered += sum(map(len, self._waits))
        for durations, histograms in ((self._waits, attempts.delivery), (self._requests, attempts.request)):
            for place, some in enumerate(durations):
                if some:
                    histograms[place] += Histogram.of_many(some)
                    some.clear()
        for status, number in Counter(self._statuses).items():
            attempts.count_status(status, number)
        self._statuses.clear()
        if self._delivered_groups:
            for group, number in Counter(self._delivered_groups).items():
                self._count_group(group, delivered=number)
            self._delivered_groups.clear()

    def _count_reason(self, text: str) -> None:
        reason = alike(text)[:LONGEST_REASON]
        if reason not in self._reasons and len(self._reasons) >= MOST_REASONS:
            reason = OTHER
        self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def _count_group(self, name: str, *, delivered: int = 0, failed: int = 0) -> None:
        if self._delivered_groups is None or not name:
            return
        sums = self._groups.get(name)
        if sums is None:
            if len(self._groups) >= self._tuning.most_groups:
                return
            sums = self._groups[name] = [0, 0]
        sums[0] += delivered
        sums[1] += failed


def _result(outcome: Postponed | Failure, settlement: Settlement) -> tuple[JournalOutcome | None, str]:
    """Return the outcome in the journal and the target that the provider named; None: this was no attempt."""
    match outcome:
        case Retry():
            return "dead" if isinstance(settlement, DeadLettered) else "retry", ""
        case Throttled():
            return "throttled", ""
        case Rejected():
            return "rejected", ""
        case Unregistered(target=target):
            return "unregistered", target
        case Unauthorised(target=target):
            return "unauthorised", target
        case Faulty():
            return "retry", ""
        case _:
            return None, ""
