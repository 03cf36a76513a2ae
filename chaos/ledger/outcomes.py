"""Each message ended once, as its kind requires, and was duplicated only if a fault explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chaos.evidence import OK
from chaos.ledger.index import EvidenceIndex
from chaos.ledger.verdict import Violation
from chaos.messages import Kind, Push

EARLY, LATE = 0.05, 1.0
"""Tolerated clock differences on one machine, and delays of a busy receiver, in seconds."""

CLOCK_LAG = 2.5
"""Seconds for which a reset clock may still be off: libfaketime reads its file every one to two seconds."""

POISON = "poison"


def check_outcomes(index: EvidenceIndex) -> Iterator[Violation]:
    """Check each message, and all messages of one id."""
    for number, push in index.evidence.pushes.items():
        if number not in index.evidence.pushed:
            if index.arrivals.get(number) or index.letters.get(number):
                yield Violation("invented", "was never pushed, but exists", number)
            continue
        if push.kind in (Kind.REPEATED, Kind.DEDUPLICATED):
            continue
        yield from _check_end(index, push)
        if push.targets:
            yield from _check_targets(index, push)
        else:
            yield from _check_arrivals(index, push)
        yield from _check_times(index, push)
        yield from _check_letters(index, push)
    for group in index.by_id.values():
        if group[0].kind in (Kind.REPEATED, Kind.DEDUPLICATED):
            yield from _check_same_id(index, group)
    yield from _check_collapsed(index)
    yield from _check_feedback(index)
    for message_id in index.receipts.keys() - index.by_id.keys():
        yield Violation("invented", f"a receipt for {message_id!r}, which was never pushed")


def _check_end(index: EvidenceIndex, push: Push) -> Iterator[Violation]:
    ends, certain = index.ends(push), index.evidence.pushed[push.number].certain
    if not ends:
        if certain:
            arrived = Counter(arrival.answer for arrival in index.arrivals.get(push.number, ()))
            yield Violation("lost", f"acknowledged, but never ended; arrivals: {dict(arrived)}", push.number)
        return
    for end in ends:
        reasons = {receipt.reason for receipt in index.receipts.get(push.id, ())} if push.id else set()
        reasons |= {letter.reason for letter in index.letters.get(push.number, ())}
        poisoned = end == "dead" and any(reason.startswith(POISON) for reason in reasons)
        if end not in push.ends and not poisoned:
            yield Violation(
                "wrong end", f"{end} ({', '.join(reasons)}); allowed: {sorted(push.ends)}", push.number
            )
    most = 1
    if push.kind is Kind.RETRIED:
        most = 1 + index.evidence.retried
        if Counter(ends)["delivered"] != 1:
            yield Violation("lost", f"was retried from the dead letters, but ended {ends}", push.number)
    if len(ends) > most:
        yield Violation("ended twice", f"{len(ends)} ends: {ends}", push.number)


def _check_arrivals(index: EvidenceIndex, push: Push) -> Iterator[Violation]:
    arrivals, ends = index.arrivals.get(push.number, []), index.ends(push)
    accepted = [arrival for arrival in arrivals if arrival.answer == OK]
    delivered = "delivered" in ends
    if delivered and not accepted:
        yield Violation("phantom", "reported as delivered, but no receiver accepted it", push.number)
    for arrival in accepted[:-1] if delivered else accepted:
        if index.explained(arrival) is None:
            yield Violation(
                "duplicate" if delivered else "wrong end",
                f"accepted by the receiver from {arrival.host}, and then {'again' if delivered else ends}",
                push.number,
                arrival.at,
            )
    if accepted and arrivals[-1] is not accepted[-1] and index.explained(accepted[-1]) is None:
        again = arrivals[-1]
        yield Violation(
            "duplicate", f"sent again to {again.answer} after it was accepted", push.number, again.at
        )
    if push.kind in (Kind.EXPIRED, Kind.MALFORMED, Kind.CANCELLED) and arrivals:
        yield Violation("wrong end", "must never be sent, but was", push.number, arrivals[0].at)
    if push.kind is Kind.DOOMED:
        attempts = [receipt.attempts for receipt in index.receipts.get(push.id, ())]
        if attempts and "dead" in ends and len(arrivals) < min(attempts):
            yield Violation("phantom", f"{attempts} attempts, but {len(arrivals)} arrivals", push.number)


def _check_targets(index: EvidenceIndex, push: Push) -> Iterator[Violation]:
    arrived: dict[str, int] = Counter()
    for arrival in index.accepted(push.number):
        arrived[arrival.target] += 1
    for receipt in index.receipts.get(push.id, ()):
        if receipt.targets != {"delivered": push.targets}:
            yield Violation("wrong end", f"targets: {dict(receipt.targets)}, of {push.targets}", push.number)
    if index.receipts.get(push.id) and len(arrived) != push.targets:
        yield Violation("lost", f"{len(arrived)} of {push.targets} targets received it", push.number)
    for target in arrived:
        taken = [arrival for arrival in index.accepted(push.number) if arrival.target == target]
        for arrival in taken[:-1]:
            if index.explained(arrival) is None:
                yield Violation("duplicate", f"target {target} accepted it again", push.number, arrival.at)


def _check_times(index: EvidenceIndex, push: Push) -> Iterator[Violation]:
    pushed = index.evidence.pushed[push.number]
    arrivals = index.arrivals.get(push.number, [])
    ends = (*(arrival.at for arrival in arrivals), *(r.at for r in index.receipts.get(push.id, ())))
    end = max(ends, default=pushed.at)
    if index.clock_was_off(pushed.started - CLOCK_LAG, end + 1):
        return
    for arrival in arrivals:
        if push.delay and arrival.at < pushed.started + push.delay - EARLY:
            early = pushed.started + push.delay - arrival.at
            yield Violation("too early", f"{early:.2f} s before its time", push.number, arrival.at)
    if push.kind is Kind.SHORT_LIVED:
        for receipt in index.receipts.get(push.id, ()):
            if receipt.outcome == "expired" and receipt.at < pushed.started + push.ttl - EARLY:
                yield Violation("wrong end", "expired too early", push.number, receipt.at)


def _check_letters(index: EvidenceIndex, push: Push) -> Iterator[Violation]:
    letters, ends = index.letters.get(push.number, []), index.ends(push)
    is_dead = push.kind in (Kind.REFUSED, Kind.DOOMED, Kind.MALFORMED) or "dead" in ends
    if is_dead and ends and len(letters) != 1:
        yield Violation("dead letters", f"{len(letters)} of them for one message", push.number)
    elif letters and not is_dead:
        yield Violation(
            "dead letters", f"bearrived one ({letters[0].reason}), and ended {list(ends)}", push.number
        )


def _check_same_id(index: EvidenceIndex, group: list[Push]) -> Iterator[Violation]:
    """Check messages that share an id: one receipt each, and at least one delivery."""
    pushed = [index.evidence.pushed[push.number] for push in group if push.number in index.evidence.pushed]
    certain = sum(one.certain for one in pushed)
    outcomes = Counter(receipt.outcome for receipt in index.receipts.get(group[0].id, ()))
    first = group[0].number
    if not certain <= outcomes.total() <= len(pushed):
        rule = "lost" if outcomes.total() < certain else "ended twice"
        yield Violation(rule, f"{len(pushed)} pushes of one id, ends: {dict(outcomes)}", first)
    if outcomes.keys() - {"delivered", "duplicate"}:
        yield Violation("wrong end", f"ends: {dict(outcomes)}", first)
    arrived = [push for push in group if index.accepted(push.number)]
    # Deliveries of messages that only a lost master had are not recorded.
    if certain == len(pushed) and outcomes and len(arrived) != outcomes["delivered"]:
        yield Violation("phantom", f"{len(arrived)} were accepted, {dict(outcomes)} were reported", first)
    undone = any(index.explained(arrival) for push in arrived for arrival in index.accepted(push.number)[-1:])
    if group[0].kind is Kind.DEDUPLICATED and len(arrived) > 1 and not undone:
        yield Violation("duplicate", "a recently delivered id was delivered again", first)
    for push in arrived:
        for arrival in index.accepted(push.number)[:-1]:
            if index.explained(arrival) is None:
                yield Violation("duplicate", "accepted by the receiver twice", push.number, arrival.at)


def _check_collapsed(index: EvidenceIndex) -> Iterator[Violation]:
    """The newest state of each key is delivered, because nothing newer can replace it."""
    newest: dict[str, Push] = {}
    uncertain: set[str] = set()
    # By number: they are in one queue, in this order.
    for number, push in sorted(index.evidence.pushes.items()):
        pushed = index.evidence.pushed.get(number)
        if push.kind is Kind.COLLAPSING and pushed:
            newest[push.collapse_key] = push
            if not pushed.certain:
                uncertain.add(push.collapse_key)
    for key, push in newest.items():
        if key not in uncertain and "collapsed" in index.ends(push):
            yield Violation("lost", f"collapsed, although it is the newest of {key}", push.number)


def _check_feedback(index: EvidenceIndex) -> Iterator[Violation]:
    entries = Counter(index.evidence.feedback)
    for push in index.evidence.pushes.values():
        if push.kind is Kind.GONE and "unregistered" in index.ends(push) and entries[push.id] != 1:
            yield Violation("feedback", f"{entries[push.id]} entries for one target", push.number)
