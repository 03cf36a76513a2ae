"""Messages of one ordering key arrive in the order of their pushes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from chaos.evidence import Arrival
from chaos.ledger.index import EvidenceIndex
from chaos.ledger.verdict import Violation


def check_order(index: EvidenceIndex) -> Iterator[Violation]:
    """Within a key, no message arrives after a later one, not even as a duplicate.

    The exception is a failover that has undone acknowledged deliveries: these are sent again.
    """
    by_key: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in sorted(index.evidence.arrivals, key=lambda arrival: arrival.at):
        push = index.evidence.pushes[arrival.number]
        if push.ordering_key:
            by_key[push.ordering_key].append(arrival)
    for key, arrivals in by_key.items():
        newest: Arrival | None = None
        for arrival in arrivals:
            if newest is not None and arrival.number < newest.number:
                if index.undone(arrival, newest):
                    continue
                earlier = index.evidence.pushed[newest.number].at - index.evidence.pushed[arrival.number].at
                yield Violation(
                    "inversion",
                    f"{key}: came from {arrival.host} {arrival.at - newest.at:.3f} s after {newest.number} "
                    f"({newest.answer}, {newest.host}), which was pushed {earlier:.3f} s later",
                    arrival.number,
                    arrival.at,
                )
            elif newest is None or arrival.number > newest.number:
                newest = arrival
