"""A pause by an operator: its author, time, reason and end. Lanes and groups use the same form."""

from __future__ import annotations

import msgspec

from relay.text import rfc3339

CONTROL_FIELDS = ("paused", "paused_until", "paused_at", "paused_by", "paused_reason")
"""The fields of a lane's control hash, in the order of `Pause.to_control`."""


class Pause(msgspec.Struct, frozen=True):
    """Times are in Unix seconds by Redis's clock."""

    until: float = 0.0
    """The end; 0: `relay resume` ends it."""
    at: float = 0.0
    by: str = ""
    """`user@host`; empty if a program has paused the lane."""
    reason: str = ""

    def holds(self, now: float) -> bool:
        """Return whether the pause has not ended yet."""
        return not self.until or self.until > now

    def left(self, now: float) -> float:
        """Seconds until the end; 0 if it has none."""
        return max(0.0, self.until - now) if self.until else 0.0

    def __str__(self) -> str:
        """For example `new certificate (ann@ops1, since 2026-11-28T19:20:00Z)`."""
        if not self.by:
            return self.reason or "by an operator"
        at = rfc3339(self.at)
        return f"{self.reason} ({self.by}, since {at})" if self.reason else f"by {self.by}, since {at}"

    def to_control(self) -> list[str | int]:
        """Names and values for the control hash. All are written, so that none of an earlier pause stays."""
        values: tuple[str | int, ...] = (
            "1",
            round(self.until * 1000),
            round(self.at * 1000),
            self.by,
            self.reason,
        )
        return [word for pair in zip(CONTROL_FIELDS, values, strict=True) for word in pair]

    @classmethod
    def of_control(
        cls, paused: str | None, until: str | None, at: str | None, by: str | None, reason: str | None
    ) -> Pause | None:
        """The pause in the values of `CONTROL_FIELDS`; None if there is none."""
        if not paused:
            return None
        return cls(int(until or 0) / 1000, int(at or 0) / 1000, by or "", reason or "")


ENDLESS = Pause()
"""A pause that only `relay resume` ends, made by a program."""
