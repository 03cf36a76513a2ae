"""Forms the batches of one request."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from relay.engine.lane_state import Batch
from relay.store.claims import Claim


def batches(claims: Iterable[Claim], size: int, group_of: Callable[..., Hashable]) -> list[Batch]:
    """Return batches of at most `size` messages of one group, in their order."""
    full: list[Batch] = []
    unfilled: dict[object, Batch] = {}
    for claim in claims:
        group = None if size == 1 or claim.isolated else group_of(claim.message)
        if group is None:
            full.append([claim])
            continue
        batch = unfilled.setdefault(group, [])
        batch.append(claim)
        if len(batch) == size:
            full.append(unfilled.pop(group))
    return [*full, *unfilled.values()]
