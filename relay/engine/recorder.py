"""Counts the attempts of one lane in memory, and keeps entries for its journal until they are flushed.

Nothing here waits. A delivered message costs little more than the numbers that are appended to lists; `take`
sorts these into histograms once a second. Entries are made for failures, and for a sample of the deliveries.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from relay.admin.counts import Durations, LaneCounts, status_class
from relay.engine.repeats import alike
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
from relay.settings.redaction import secrets_in
from relay.store import journal
from relay.store.claims import Claim
from relay.store.histogram import EMPTY, Histogram
from relay.store.journal import JournalEntry, JournalOutcome
from relay.store.recording import LONGEST_REASON, Report, histogram_fields
from relay.store.settlement import DeadLettered, Settlement
from relay.store.statistics import MOST_GROUPS, MOST_REASONS, OTHER
from relay.text import Redactor, one_line

CLASSES = 10
"""Classes of HTTP statuses: 2 for 200 to 299. 0: there was no answer, or it has no status."""


@dataclass(frozen=True, slots=True)
class RecorderTuning:
    """Bounds of the memory that a lane takes while Redis is away."""

    most_entries: int = 10_000
    """Entries that wait for a flush. Beyond it, the oldest ones are dropped."""
    most_in_report: int = 250
    """Entries in one report: Redis serves no other client while it writes them."""
    most_groups: int = 1_000
    """Groups that are counted between two flushes."""


class LaneRecorder:
    """The attempts of one lane in this process.

    The histograms, the statuses and the results count from the start of the process; `take` returns what is
    new since the last call.
    """

    def __init__(
        self,
        options: ProviderOptions,
        worker: str = "",
        *,
        tuning: RecorderTuning = RecorderTuning(),
    ) -> None:
        """`worker` is named in entries of the journal."""
        self._attempts = Attempts()
        self.entries_lost = 0
        """Entries that were dropped because Redis was away."""
        self._worker = worker
        self._clocks = time.time() - time.monotonic()
        """Unix time minus monotonic time, as of the last flush."""
        self._tuning = tuning
        self._sample = 0.0 if options.journal is None else options.journal.sampled_per_second
        self._keeps_journal = options.journal is not None
        self._redactor = Redactor(secrets_in(options))

        # Not yet part of the counts. Bounded by the messages that a worker holds while it cannot flush.
        self._requests: tuple[list[float], ...] = tuple([] for _ in range(CLASSES))
        """By class of the status, as are the waits."""
        self._waits: tuple[list[float], ...] = tuple([] for _ in range(CLASSES))
        self._statuses: list[int] = []

        # New since the last call of `take`.
        self._reported = Attempts()
        self._reasons: dict[str, int] = {}
        self._groups: dict[str, list[int]] | None = None if options.group_rules is None else {}
        """By group: delivered and failed attempts. None without groups."""
        self._entries: deque[JournalEntry] = deque()
        self._tokens = max(1.0, self._sample) if self._keeps_journal else 0.0
        """Delivered messages that may still get an entry."""

    def answered(
        self, batch: Sequence[Claim], outcomes: Sequence[Outcome], started: float, status: int
    ) -> None:
        """Count a request and its delivered messages. `failed` counts the others, one by one.

        `started` is when the request began, in monotonic seconds; 0 if none was made. `status` is that of the
        answer, or 0.
        """
        now, place = time.monotonic(), status // 100
        if started:
            self._requests[place].append(now - started)
        claims = batch
        if len(batch) > 1 or type(outcomes[0]) is not Delivered:
            claims = [one for one, outcome in zip(batch, outcomes, strict=True) if type(outcome) is Delivered]
        now += self._clocks
        waits = self._waits[place]
        for claim in claims:
            message = claim.message
            since = message.created_at
            since = max(since, message.deliver_at)
            waits.append(now - since)
            self._statuses.append(status)
        if self._tokens >= 1.0 or self._groups is not None:
            self._answered_more(batch, outcomes, started, status)

    def _answered_more(
        self, batch: Sequence[Claim], outcomes: Sequence[Outcome], started: float, status: int
    ) -> None:
        """Count the groups of delivered messages, and note a sample of the messages."""
        for claim, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Delivered):
                if self._groups is not None:
                    self._count_group(claim.message.group, 0)
                if self._tokens >= 1.0:
                    self._tokens -= 1.0
                    self._note(claim, "delivered", started, status, provider_id=outcome.provider_id)

    def failed(
        self,
        claim: Claim,
        outcome: Postponed | Failure,
        settlement: Settlement,
        started: float,
        status: int,
    ) -> None:
        """Count an attempt that did not deliver the message. `outcome` has no secrets any more."""
        attempts, reason = self._attempts, outcome.reason
        status = getattr(outcome, "status", 0) or status
        if 100 <= status < 1000:
            attempts.statuses[status] = attempts.statuses.get(status, 0) + 1
        self._count_reason(reason)
        result, target = _result(outcome, settlement)
        if result is None:
            return
        attempts.failures[result] = attempts.failures.get(result, 0) + 1
        if self._groups is not None and result != "throttled":
            self._count_group(claim.message.group, 1)
        if self._keeps_journal:
            self._note(claim, result, started, status, reason=reason, target=target)

    def expired(self, claim: Claim) -> None:
        """Note a message that expired before it was sent."""
        if self._keeps_journal and self._tokens >= 1.0:
            self._tokens -= 1.0
            self._note(claim, "expired", 0.0, 0, attempt=claim.message.attempts)

    @property
    def attempts(self) -> Attempts:
        """All attempts since the start of the process."""
        self._fold()
        return self._attempts

    def _fold(self) -> None:
        """Add the durations and statuses that were appended to the counts."""
        attempts = self._attempts
        attempts.delivered += sum(map(len, self._waits))
        for durations, histograms in ((self._waits, attempts.delivery), (self._requests, attempts.request)):
            for place, some in enumerate(durations):
                if some:
                    histograms[place] += Histogram.of_many(some)
                    some.clear()
        for status, number in Counter(self._statuses).items():
            if status:
                attempts.statuses[status] = attempts.statuses.get(status, 0) + number
        self._statuses.clear()

    def take(self, number: str) -> Report | None:
        """Return what is new, under the number of a flush; None if nothing is. The caller must flush it."""
        counts = self.attempts.growth(self._reported)
        if not counts and not self._reasons and not self._entries:
            return None
        self._reported = self.attempts.copy()
        reasons, self._reasons = self._reasons, {}
        groups: dict[str, tuple[int, int]] = {}
        if self._groups:
            largest = sorted(self._groups.items(), key=lambda item: -sum(item[1]))[:MOST_GROUPS]
            groups = {name: (sums[0], sums[1]) for name, sums in largest}
            self._groups = {}
        entries = [
            journal.encode(self._entries.popleft())
            for _ in range(min(len(self._entries), self._tuning.most_in_report))
        ]
        return Report(number, counts, reasons, groups, entries)

    @property
    def has_entries(self) -> bool:
        """Whether another report is due at once."""
        return bool(self._entries)

    def refill(self, seconds: float) -> None:
        """Allow entries for as many delivered messages as the sample admits in this time. Call it often."""
        self._clocks = time.time() - time.monotonic()
        if self._keeps_journal:
            self._tokens = min(max(1.0, self._sample), self._tokens + self._sample * seconds)

    def _printable(self, text: str) -> str:
        return one_line(self._redactor.text(text), journal.LONGEST_REASON)

    def _count_reason(self, text: str) -> None:
        reason = alike(text)[:LONGEST_REASON]
        if reason not in self._reasons and len(self._reasons) >= MOST_REASONS:
            reason = OTHER
        self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def _count_group(self, name: str, place: int) -> None:
        groups = self._groups
        if groups is None or not name:
            return
        sums = groups.get(name)
        if sums is None:
            if len(groups) >= self._tuning.most_groups:
                return
            sums = groups[name] = [0, 0]
        sums[place] += 1

    def _note(
        self,
        claim: Claim,
        outcome: JournalOutcome,
        started: float,
        status: int,
        *,
        reason: str = "",
        target: str = "",
        provider_id: str = "",
        attempt: int | None = None,
    ) -> None:
        message, now = claim.message, time.monotonic()
        if len(self._entries) >= self._tuning.most_entries:
            self._entries.popleft()
            self.entries_lost += 1
        self._entries.append(
            JournalEntry(
                at=now + self._clocks,
                id=message.id,
                group=message.group,
                outcome=outcome,
                status=status,
                reason=reason[: journal.LONGEST_REASON],
                attempt=message.attempts + 1 if attempt is None else attempt,
                waited=max(0.0, now + self._clocks - max(message.created_at, message.deliver_at)),
                request_seconds=now - started if started else 0.0,
                worker=self._worker,
                ordering_key=message.ordering_key,
                collapse_key=message.collapse_key,
                target=target,
                traceparent=message.traceparent,
                provider_id=provider_id and self._printable(provider_id),
            )
        )


class Attempts:
    """Counts since the start of the process."""

    def __init__(self) -> None:
        self.delivered = 0
        self.failures: dict[str, int] = {}
        """Attempts that did not deliver, by outcome in the journal."""
        self.statuses: dict[int, int] = {}
        """Messages by the HTTP status of the answer, if it is known."""
        self.delivery = [EMPTY] * CLASSES
        """Seconds from the push of a message until the provider accepted it, by class of the status."""
        self.request = [EMPTY] * CLASSES
        """Seconds that requests took."""

    def counts(self) -> LaneCounts:
        """Return them for `/metrics`."""
        results = {"delivered": self.delivered} if self.delivered else {}
        return LaneCounts({**results, **self.failures}, _durations(self.delivery), _durations(self.request))

    def copy(self) -> Attempts:
        copy = Attempts()
        copy.delivered, copy.failures, copy.statuses = self.delivered, {**self.failures}, {**self.statuses}
        copy.delivery, copy.request = [*self.delivery], [*self.request]
        return copy

    def growth(self, before: Attempts) -> dict[str, int]:
        """Return the fields of the statistics (see `record.lua`) that have grown since then."""
        counts = {
            f"s:{status}": number - before.statuses.get(status, 0)
            for status, number in self.statuses.items()
            if number != before.statuses.get(status, 0)
        }
        delivery, request = _growth(self.delivery, before.delivery), _growth(self.request, before.request)
        return {**counts, **histogram_fields("d", delivery), **histogram_fields("q", request)}


def _durations(histograms: list[Histogram]) -> dict[str, Durations]:
    """Return the histograms that are not empty, by class of the status."""
    return {
        status_class(100 * index): Durations(
            {bucket: number for bucket, number in enumerate(histogram.counts) if number}, histogram.total
        )
        for index, histogram in enumerate(histograms)
        if histogram is not EMPTY
    }


def _growth(now: list[Histogram], before: list[Histogram]) -> Histogram:
    """Return what was added since then, over all classes of the status."""
    grown = (one - two for one, two in zip(now, before, strict=True) if one is not two)
    return sum(grown, EMPTY)


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
