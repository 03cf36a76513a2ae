"""Messages of one ordering key never arrive in another order than they were pushed in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from chaos.evidence import Arrival
from chaos.ledger.account import Account
from chaos.ledger.verdict import Violation


def check_order(account: Account) -> Iterator[Violation]:
    """Within a key no message arrives after a later one did, not even as a repetition, unless a failover
    undid that they had been taken in their order: then they go out again."""
    by_key: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in sorted(account.evidence.arrivals, key=lambda arrival: arrival.at):
        push = account.evidence.pushes[arrival.number]
        if push.ordering_key:
            by_key[push.ordering_key].append(arrival)
    for key, arrivals in by_key.items():
        newest: Arrival | None = None
        for arrival in arrivals:
            if newest is not None and arrival.number < newest.number:
                if account.undone(arrival, newest):
                    continue
                earlier = (
                    account.evidence.pushed[newest.number].at - account.evidence.pushed[arrival.number].at
                )
                yield Violation(
                    "inversion",
                    f"{key}: came from {arrival.host} {arrival.at - newest.at:.3f} s after {newest.number} "
                    f"({newest.answer}, {newest.host}), which was pushed {earlier:.3f} s later",
                    arrival.number,
                    arrival.at,
                )
            elif newest is None or arrival.number > newest.number:
                newest = arrival
