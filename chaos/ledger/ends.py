"""Each message ended once, as its kind says, and came again only where a fault explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chaos.evidence import OK
from chaos.ledger.account import Account
from chaos.ledger.verdict import Violation
from chaos.messages import Kind, Push

EARLY, LATE = 0.05, 1.0
"""Seconds by which clocks of one machine, and a busy receiver, may be off."""

CLOCK_LAG = 2.5
"""Seconds for which a clock that was set right may still be off: libfaketime looks every second or two."""

POISON = "poison"


def check_ends(account: Account) -> Iterator[Violation]:
    """All that concerns one message, or the messages of one id."""
    for number, push in account.evidence.pushes.items():
        if number not in account.evidence.pushed:
            if account.arrivals.get(number) or account.letters.get(number):
                yield Violation("invented", "was never pushed, but is there", number)
            continue
        if push.kind in (Kind.REPEATED, Kind.REMEMBERED):
            continue
        yield from _check_end(account, push)
        if push.targets:
            yield from _check_targets(account, push)
        else:
            yield from _check_arrivals(account, push)
        yield from _check_times(account, push)
        yield from _check_letters(account, push)
    for group in account.by_id.values():
        if group[0].kind in (Kind.REPEATED, Kind.REMEMBERED):
            yield from _check_same_id(account, group)
    yield from _check_collapsed(account)
    yield from _check_feedback(account)
    for message_id in account.receipts.keys() - account.by_id.keys():
        yield Violation("invented", f"a receipt for {message_id!r}, which was never pushed")


def _check_end(account: Account, push: Push) -> Iterator[Violation]:
    ends, certain = account.ends(push), account.evidence.pushed[push.number].certain
    if not ends:
        if certain:
            came = Counter(arrival.answer for arrival in account.arrivals.get(push.number, ()))
            yield Violation("lost", f"acknowledged, but it never ended; arrivals: {dict(came)}", push.number)
        return
    for end in ends:
        reasons = {receipt.reason for receipt in account.receipts.get(push.id, ())} if push.id else set()
        reasons |= {letter.reason for letter in account.letters.get(push.number, ())}
        poisoned = end == "dead" and any(reason.startswith(POISON) for reason in reasons)
        if end not in push.ends and not poisoned:
            yield Violation(
                "wrong end", f"{end} ({', '.join(reasons)}); allowed: {sorted(push.ends)}", push.number
            )
    most = 1
    if push.kind is Kind.MENDED:
        most = 1 + account.evidence.retried
        if Counter(ends)["delivered"] != 1:
            yield Violation("lost", f"was retried from the dead letters, but ended {ends}", push.number)
    if len(ends) > most:
        yield Violation("ended twice", f"{len(ends)} ends: {ends}", push.number)


def _check_arrivals(account: Account, push: Push) -> Iterator[Violation]:
    arrivals, ends = account.arrivals.get(push.number, []), account.ends(push)
    accepted = [arrival for arrival in arrivals if arrival.answer == OK]
    delivered = "delivered" in ends
    if delivered and not accepted:
        yield Violation("phantom", "said to be delivered, but no receiver took it", push.number)
    for arrival in accepted[:-1] if delivered else accepted:
        if account.explained(arrival) is None:
            yield Violation(
                "duplicate" if delivered else "wrong end",
                f"taken by the receiver from {arrival.host}, and then {'again' if delivered else ends}",
                push.number,
                arrival.at,
            )
    if accepted and arrivals[-1] is not accepted[-1] and account.explained(accepted[-1]) is None:
        again = arrivals[-1]
        yield Violation(
            "duplicate", f"sent again to {again.answer} after it was taken", push.number, again.at
        )
    if push.kind in (Kind.STILLBORN, Kind.MALFORMED, Kind.CANCELLED) and arrivals:
        yield Violation("wrong end", "must never be sent, but was", push.number, arrivals[0].at)
    if push.kind is Kind.DOOMED:
        attempts = [receipt.attempts for receipt in account.receipts.get(push.id, ())]
        if attempts and "dead" in ends and len(arrivals) < min(attempts):
            yield Violation("phantom", f"{attempts} attempts, but {len(arrivals)} arrivals", push.number)


def _check_targets(account: Account, push: Push) -> Iterator[Violation]:
    came: dict[str, int] = Counter()
    for arrival in account.accepted(push.number):
        came[arrival.target] += 1
    for receipt in account.receipts.get(push.id, ()):
        if receipt.targets != {"delivered": push.targets}:
            yield Violation("wrong end", f"targets: {dict(receipt.targets)}, of {push.targets}", push.number)
    if account.receipts.get(push.id) and len(came) != push.targets:
        yield Violation("lost", f"{len(came)} of {push.targets} targets got it", push.number)
    for target in came:
        taken = [arrival for arrival in account.accepted(push.number) if arrival.target == target]
        for arrival in taken[:-1]:
            if account.explained(arrival) is None:
                yield Violation("duplicate", f"target {target} took it again", push.number, arrival.at)


def _check_times(account: Account, push: Push) -> Iterator[Violation]:
    pushed = account.evidence.pushed[push.number]
    arrivals = account.arrivals.get(push.number, [])
    end = arrivals[-1].at if arrivals else pushed.at
    if account.clock_was_off(pushed.asked - CLOCK_LAG, end + 1):
        return
    for arrival in arrivals:
        if push.delay and arrival.at < pushed.asked + push.delay - EARLY:
            early = pushed.asked + push.delay - arrival.at
            yield Violation("too early", f"{early:.2f} s before its time", push.number, arrival.at)
    if push.kind is Kind.SHORT_LIVED:
        for receipt in account.receipts.get(push.id, ()):
            if receipt.outcome == "expired" and receipt.at < pushed.asked + push.ttl - EARLY:
                yield Violation("wrong end", "expired before its end", push.number, receipt.at)


def _check_letters(account: Account, push: Push) -> Iterator[Violation]:
    letters, ends = account.letters.get(push.number, []), account.ends(push)
    buried = push.kind in (Kind.REFUSED, Kind.DOOMED, Kind.MALFORMED) or "dead" in ends
    if buried and ends and len(letters) != 1:
        yield Violation("dead letters", f"{len(letters)} of them for one message", push.number)
    elif letters and not buried:
        yield Violation("dead letters", f"is one ({letters[0].reason}), and ended {list(ends)}", push.number)


def _check_same_id(account: Account, group: list[Push]) -> Iterator[Violation]:
    """Messages that share an id: one receipt each, and one delivery of at least one of them."""
    pushed = [
        account.evidence.pushed[push.number] for push in group if push.number in account.evidence.pushed
    ]
    certain = sum(one.certain for one in pushed)
    outcomes = Counter(receipt.outcome for receipt in account.receipts.get(group[0].id, ()))
    first = group[0].number
    if not certain <= outcomes.total() <= len(pushed):
        rule = "lost" if outcomes.total() < certain else "ended twice"
        yield Violation(rule, f"{len(pushed)} pushes of one id, ends: {dict(outcomes)}", first)
    if outcomes.keys() - {"delivered", "duplicate"}:
        yield Violation("wrong end", f"ends: {dict(outcomes)}", first)
    came = [push for push in group if account.accepted(push.number)]
    # What only a master had that was lost may have been delivered from there, and nobody knows of it.
    if certain == len(pushed) and outcomes and len(came) != outcomes["delivered"]:
        yield Violation("phantom", f"{len(came)} were taken, {dict(outcomes)} were said to be", first)
    undone = any(
        account.explained(arrival) for push in came for arrival in account.accepted(push.number)[-1:]
    )
    if group[0].kind is Kind.REMEMBERED and len(came) > 1 and not undone:
        yield Violation("duplicate", "an id that was delivered lately was delivered again", first)
    for push in came:
        for arrival in account.accepted(push.number)[:-1]:
            if account.explained(arrival) is None:
                yield Violation("duplicate", "taken by the receiver, and then again", push.number, arrival.at)


def _check_collapsed(account: Account) -> Iterator[Violation]:
    """Of each key the newest state is delivered: nothing newer can have taken its place."""
    newest: dict[str, Push] = {}
    uncertain: set[str] = set()
    # By number: they come by one queue, in this order.
    for number, push in sorted(account.evidence.pushes.items()):
        pushed = account.evidence.pushed.get(number)
        if push.kind is Kind.COLLAPSING and pushed:
            newest[push.collapse_key] = push
            if not pushed.certain:
                uncertain.add(push.collapse_key)
    for key, push in newest.items():
        if key not in uncertain and "collapsed" in account.ends(push):
            yield Violation("lost", f"collapsed, though it is the newest of {key}", push.number)


def _check_feedback(account: Account) -> Iterator[Violation]:
    told = Counter(account.evidence.feedback)
    for push in account.evidence.pushes.values():
        if push.kind is Kind.GONE and "unregistered" in account.ends(push) and told[push.id] != 1:
            yield Violation("feedback", f"{told[push.id]} entries for one target", push.number)
