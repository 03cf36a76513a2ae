"""The pushed messages. Each is of one kind, which determines its allowed outcomes. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The request of a message, or its defect."""

    PLAIN = "plain"
    NAMED = "with id"
    BARE = "bare"
    REPEATED = "id twice"
    DEDUPLICATED = "recently delivered id"
    SHORT_LIVED = "short ttl"
    EXPIRED = "ttl over"
    DELAYED = "delayed"
    COLLAPSING = "collapse_key"
    ORDERED = "ordering_key"
    FAN_OUT = "fan-out"
    REFUSED = "refused"
    GONE = "target gone"
    DOOMED = "always fails"
    RETRIED = "dead, retried"
    CANCELLED = "cancelled"
    CROWDED = "max_backlog"
    MALFORMED = "malformed"
    RECEIPT_REFUSED = "receipt refused"
    GROUPED = "to a healthy group"
    FAILING_GROUP = "to a failing group"


WEIGHTS = {
    Kind.PLAIN: 18,
    Kind.NAMED: 20,
    Kind.BARE: 6,
    Kind.REPEATED: 5,
    Kind.DEDUPLICATED: 4,
    Kind.SHORT_LIVED: 5,
    Kind.EXPIRED: 2,
    Kind.DELAYED: 6,
    Kind.COLLAPSING: 6,
    Kind.ORDERED: 12,
    Kind.FAN_OUT: 1,
    Kind.REFUSED: 2,
    Kind.GONE: 1,
    Kind.DOOMED: 1,
    Kind.RETRIED: 1,
    Kind.CANCELLED: 1,
    Kind.CROWDED: 4,
    Kind.MALFORMED: 3,
    Kind.RECEIPT_REFUSED: 1,
    Kind.GROUPED: 14,
    Kind.FAILING_GROUP: 5,
}

HEALTHY_GROUPS = tuple(f"healthy-{number}" for number in range(6))
FAILING_GROUPS = ("refusing", "hanging", "throttling", "erring")
"""Groups that fail for the whole run: see the catalogue."""

MIXED_LANE, HEALTHY_LANE = "many", "calm"
"""Two lanes with the same healthy groups. Only the first one has failing groups too, so the second one shows
the delays without them, under the same faults."""

PROVIDERS = {
    Kind.PLAIN: ("hook", "limited", "pusher", "changing"),
    Kind.NAMED: ("hook", "limited", "pusher", "changing"),
    Kind.BARE: ("pusher",),
    Kind.REPEATED: ("hook",),
    Kind.DEDUPLICATED: ("remembering",),
    Kind.SHORT_LIVED: ("limited",),
    Kind.EXPIRED: ("hook", "pusher"),
    Kind.DELAYED: ("hook", "limited"),
    Kind.COLLAPSING: ("limited",),
    Kind.ORDERED: ("hook", "pusher"),
    Kind.FAN_OUT: ("fan",),
    Kind.REFUSED: ("hook", "pusher"),
    Kind.GONE: ("fan",),
    Kind.DOOMED: ("failing",),
    Kind.RETRIED: ("recovering",),
    Kind.CANCELLED: ("hook",),
    Kind.CROWDED: ("crowded",),
    Kind.MALFORMED: ("hook",),
    Kind.RECEIPT_REFUSED: ("hook",),
    Kind.GROUPED: (MIXED_LANE, HEALTHY_LANE),
    Kind.FAILING_GROUP: (MIXED_LANE,),
}

ENDS: dict[Kind, frozenset[str]] = {
    kind: frozenset(ends.split())
    for kind, ends in {
        Kind.PLAIN: "delivered",
        Kind.NAMED: "delivered",
        Kind.BARE: "delivered",
        Kind.REPEATED: "delivered duplicate",
        Kind.DEDUPLICATED: "delivered duplicate",
        Kind.SHORT_LIVED: "delivered expired",
        Kind.EXPIRED: "expired",
        Kind.DELAYED: "delivered",
        Kind.COLLAPSING: "delivered collapsed",
        Kind.ORDERED: "delivered",
        Kind.FAN_OUT: "delivered",
        Kind.REFUSED: "rejected",
        Kind.GONE: "unregistered",
        Kind.DOOMED: "dead",
        Kind.RETRIED: "rejected delivered",
        Kind.CANCELLED: "cancelled",
        Kind.CROWDED: "delivered dropped",
        Kind.MALFORMED: "malformed",
        Kind.RECEIPT_REFUSED: "delivered",
        Kind.GROUPED: "delivered",
        Kind.FAILING_GROUP: "delivered",
    }.items()
}

MALFORMATIONS = (
    "not JSON",
    "not UTF-8",
    "oversized",
    "unknown provider",
    "unknown field",
    "payload missing",
    "payload is a list",
    "wrong type",
    "duplicate key",
    "lone surrogate",
    "NaN",
    "too deep",
    "no object",
)

FORBIDDEN_LIST, WRONG_TYPE_KEY = "receipts:forbidden", "receipts:occupied"
"""Keys that cannot take a receipt: the workers' user has no right to one (with a single server), and the
other holds a string."""

MAX_SIZE = 8192
"""Maximum bytes of an element."""

LARGE = 2000
"""Bytes that make a message large: its record then bypasses the scripts."""

PRIORITIES = ("high", "normal", "normal", "low")
REQUESTED_STATUS = {Kind.REFUSED: 400, Kind.GONE: 410, Kind.DOOMED: 500, Kind.RETRIED: 400}
"""The status that the message asks its receiver for."""


@dataclass(frozen=True, slots=True)
class Push:
    """One element. `at` is in seconds since the start, `ttl` and `delay` in seconds, `targets` a number."""

    number: int
    at: float
    kind: Kind
    provider: str
    queue: str = "notifications"
    id: str = ""
    reply_to: str = ""
    priority: str = ""
    ordering_key: str = ""
    collapse_key: str = ""
    ttl: float = 0.0
    delay: float = 0.0
    targets: int = 0
    malformation: str = ""
    group: str = ""

    @property
    def ends(self) -> frozenset[str]:
        return ENDS[self.kind]

    @property
    def has_receipt(self) -> bool:
        """Whether a receipt reports its outcome."""
        return bool(self.reply_to) and self.kind is not Kind.RECEIPT_REFUSED


def generate(rng: random.Random, total: int, seconds: float) -> list[Push]:
    """Generate `total` pushes within `seconds`, in order of time."""
    kinds = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=total)
    times = sorted(rng.uniform(0, seconds) for _ in range(total))
    lists = 2 + total // 40_000  # each keeps its newest 100,000 receipts
    keys = max(2, total // 400)
    pushes: list[Push] = []
    pending: dict[Kind, str] = {}
    for number, (kind, at) in enumerate(zip(kinds, times, strict=True)):
        provider = rng.choice(PROVIDERS[kind])
        fields: dict[str, object] = {}
        if kind not in (Kind.PLAIN, Kind.BARE, Kind.MALFORMED):
            fields = {"id": f"m{number}", "reply_to": f"receipts:{number % lists}"}
        if kind in (Kind.PLAIN, Kind.NAMED):
            fields["priority"] = rng.choice(PRIORITIES)
        match kind:
            case Kind.BARE:
                fields["queue"] = "hits"
            case Kind.REPEATED | Kind.DEDUPLICATED:
                # Every second message repeats the id of the previous one.
                fields["id"] = pending.pop(kind, "") or pending.setdefault(kind, f"m{number}")
            case Kind.SHORT_LIVED:
                fields["ttl"] = round(rng.uniform(0.2, 3), 3)
            case Kind.EXPIRED:
                fields["ttl"] = 600
            case Kind.DELAYED:
                fields["delay"] = round(rng.uniform(0.5, 4), 3)
            case Kind.CANCELLED:
                fields["delay"] = 36_000
            case Kind.COLLAPSING:
                fields["collapse_key"] = f"state-{rng.randrange(keys)}"
            case Kind.ORDERED:
                key = rng.randrange(keys)
                provider = PROVIDERS[kind][key % 2]
                fields["ordering_key"] = f"user-{key}"
                fields["queue"] = ("notifications", "orders")[key // 2 % 2]
            case Kind.FAN_OUT:
                fields["targets"] = rng.choice((1, 2, 5, 30))
            case Kind.RECEIPT_REFUSED:
                fields["reply_to"] = rng.choice((FORBIDDEN_LIST, WRONG_TYPE_KEY))
            case Kind.GROUPED:
                fields["group"] = rng.choice(HEALTHY_GROUPS)
            case Kind.FAILING_GROUP:
                fields["group"] = rng.choice(FAILING_GROUPS)
            case Kind.MALFORMED:
                fields["malformation"] = rng.choice(MALFORMATIONS)
        pushes.append(Push(number, at, kind, provider, **fields))  # type: ignore[arg-type]
    return pushes


def element(push: Push, urls: Mapping[str, str]) -> bytes:
    """Return the bytes that an application pushes. `urls` are those of fan-outs and groups by name."""
    if push.kind is Kind.MALFORMED:
        return _malformed(push)
    facts: dict[str, object] = {"n": push.number}
    if want := REQUESTED_STATUS.get(push.kind):
        facts["want"] = want
    if push.kind is Kind.BARE:
        return _json({"channel": f"site-{push.number % 50}", **facts})
    if push.number // 50 % 3 == 0:
        facts["filler"] = LARGE * "x"
    payload: dict[str, object] = {"body": facts}
    if push.provider == "pusher":
        payload = {"channel": f"site-{push.number % 50}", "event": "chaos", "data": facts}
    if push.kind is Kind.GONE:
        payload["url"] = f"{urls['fan']}/target/gone"
    if push.group:
        payload["url"] = f"{urls[push.group]}/{push.provider}"
    if push.targets:
        payload["targets"] = [f"{urls['fan']}/target/{index}" for index in range(push.targets)]
    document: dict[str, object] = {"provider": push.provider}
    for name in ("id", "reply_to", "priority", "ordering_key", "collapse_key", "ttl", "delay"):
        if value := getattr(push, name):
            document[name] = value
    if push.kind is Kind.EXPIRED:
        document["created_at"] = 1_700_000_000
    return _json({**document, "payload": payload})


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _malformed(push: Push) -> bytes:
    """Return an invalid message whose raw bytes contain its number: `#17#`."""
    mark = b'"#%d#"' % push.number
    return {
        "not JSON": b'{"payload":{"body":' + mark,
        "not UTF-8": b'{"payload":{"body":' + mark + b',"x":"\xff\xfe"}}',
        "oversized": b'{"payload":{"body":' + mark + b',"x":"' + b"x" * MAX_SIZE + b'"}}',
        "unknown provider": b'{"provider":"nobody","payload":{"body":' + mark + b"}}",
        "unknown field": b'{"colapse_key":"x","payload":{"body":' + mark + b"}}",
        "payload missing": b'{"id":' + mark + b"}",
        "payload is a list": b'{"payload":[' + mark + b"]}",
        "wrong type": b'{"ttl":"soon","payload":{"body":' + mark + b"}}",
        "duplicate key": b'{"payload":{"body":1,"body":' + mark + b"}}",
        "lone surrogate": b'{"payload":{"body":' + mark + b',"x":"\\ud800"}}',
        "NaN": b'{"payload":{"body":' + mark + b',"x":NaN}}',
        "too deep": b'{"payload":{"body":' + mark + b',"x":' + b"[" * 100 + b"]" * 100 + b"}}",
        "no object": mark,
    }[push.malformation]
