"""Entries of one lane for its journal, from the attempt until the flush."""

from __future__ import annotations

from collections import deque

from relay.settings.options import ProviderOptions
from relay.settings.redaction import secrets_in
from relay.store import journal
from relay.store.claims import Claim
from relay.store.journal import JournalEntry, JournalOutcome
from relay.text import Redactor, one_line


class JournalBuffer:
    """A queue of bounded length. If Redis is away for long, the oldest entries go."""

    def __init__(self, options: ProviderOptions, worker: str, *, most: int) -> None:
        """`worker` is named in the entries; `most` is the length of the queue."""
        self._is_on = options.journal is not None
        self._sample = 0.0 if options.journal is None else options.journal.sampled_per_second
        self._worker = worker
        self._most = most
        self._redactor = Redactor(secrets_in(options))
        self._entries: deque[JournalEntry] = deque()
        self.tokens = max(1.0, self._sample) if self._is_on else 0.0
        """Messages of the sample that may still get an entry: delivered and expired ones."""
        self.lost = 0
        """Entries that were dropped. The flusher logs and resets the number."""

    def __len__(self) -> int:
        return len(self._entries)

    def refill(self, seconds: float) -> None:
        """Allow as many entries as the sample admits in this time."""
        if self._is_on:
            self.tokens = min(max(1.0, self._sample), self.tokens + self._sample * seconds)

    def admit(self) -> bool:
        """Return whether the sample admits another message. Call it once for each."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def note(
        self,
        claim: Claim,
        outcome: JournalOutcome,
        at: float,
        *,
        seconds: float = 0.0,
        status: int = 0,
        attempt: int = 0,
        reason: str = "",
        target: str = "",
        provider_id: str = "",
    ) -> None:
        """Add an entry. `at` is in Unix seconds, `seconds` the duration of the request.

        The reason has no secrets any more.
        """
        if not self._is_on:
            return
        if len(self._entries) >= self._most:
            self._entries.popleft()
            self.lost += 1
        message = claim.message
        self._entries.append(
            JournalEntry(
                at=at,
                id=message.id,
                group=message.group,
                outcome=outcome,
                status=status,
                reason=reason[: journal.LONGEST_REASON],
                attempt=attempt,
                waited=max(0.0, at - max(message.created_at, message.deliver_at)),
                request_seconds=seconds,
                worker=self._worker,
                ordering_key=message.ordering_key,
                collapse_key=message.collapse_key,
                target=target,
                traceparent=message.traceparent,
                provider_id=provider_id and self._printable(provider_id),
            )
        )

    def take(self, most: int) -> list[bytes]:
        """Remove the oldest entries, and return them encoded."""
        number = min(len(self._entries), most)
        return [journal.encode(self._entries.popleft()) for _ in range(number)]

    def _printable(self, text: str) -> str:
        return one_line(self._redactor.text(text), journal.LONGEST_REASON)
