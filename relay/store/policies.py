"""The options of a provider as its lane's scripts read them: MessagePack maps, encoded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relay.settings.options import JournalOptions, ProviderOptions
from relay.settings.values import Rates

PROBE_GRACE = 5.0
"""Seconds beyond a request's timeout after which a probe of a held lane counts as lost."""

_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Policies:
    """One policy for each kind of script. The header of the script names the fields."""

    enqueue: bytes
    claim: bytes
    settle: bytes
    plain_claims: int
    """1 if claims may take the short way: see `parts/claim_plain.lua` and `parts/claim_plain_groups.lua`."""
    group_concurrency: int
    """0 if groups have no limit."""


def policies(options: ProviderOptions) -> Policies:
    """Encode the options that scripts need. Durations are in milliseconds."""
    dedup_ms = round(options.dedup_window * 1000)
    journal = {} if options.journal is None else {"journal": _journal_policy(options.journal)}
    enqueue = _pack(
        {
            "lifo": options.order == "lifo",
            **journal,
            "max_backlog": options.max_backlog or 0,
            "overflow": options.overflow,
            "dedup": dedup_ms,
            "group_backlog": (options.group_rules and options.group_rules.max_backlog) or 0,
            "groups": options.group_rules is not None,
        }
    )
    rates = _buckets(options.lane_rate, options.bursts())
    groups = _group_policy(options)
    claim = _pack(
        {
            "lifo": options.order == "lifo",
            **journal,
            "rates": rates,
            "groups": groups,
            "warmup": round(options.warmup * 1000),
            "adaptive": options.adaptive,
            "probe": round((options.timeout + PROBE_GRACE) * 1000),
            "shares": [options.shares.normal, options.shares.low],
        }
    )
    settle = _pack(
        {
            "lifo": options.order == "lifo",
            **journal,
            "dedup": dedup_ms,
            "failures": options.breaker.failures,
            "cooldown": round(options.breaker.cooldown * 1000),
            "share": options.breaker.share,
            "window": round(options.breaker.window * 1000),
            "groups": groups,
            "adaptive": options.adaptive,
            "gone_share": options.unregistered_share,
        }
    )
    rules = options.group_rules
    some_rate = rates or options.warmup or (rules and rules.rate)
    plain = not some_rate and options.order != "lifo"
    return Policies(enqueue, claim, settle, int(plain), rules.concurrency if rules else 0)


def _buckets(rates: Rates, bursts: Sequence[int]) -> list[list[str | float]]:
    return [[str(rate), rate.per_second, burst] for rate, burst in zip(rates, bursts, strict=False)]


def _journal_policy(options: JournalOptions) -> list[int]:
    """The rules of parts/journal.lua."""
    sample = options.sampled_per_second
    return [options.most, 0 if math.isinf(sample) else math.ceil(sample)]


def _group_policy(options: ProviderOptions) -> dict[str, Any] | Literal[False]:
    """The rules of parts/group_states.lua; times are in milliseconds."""
    rules = options.group_rules
    if rules is None:
        return False
    return {
        "rates": _buckets(rules.rate, rules.bursts()),
        "concurrency": rules.concurrency,
        "failures": rules.breaker.failures,
        "share": rules.breaker.share,
        "window": round(rules.breaker.window * 1000),
        "cooldown": round(rules.breaker.cooldown * 1000),
        "disable_after": round(rules.disable_after * 1000),
        "probe": round((options.timeout + PROBE_GRACE) * 1000),
        "one_upstream": rules.by == "message" and not options.brings_url,
    }


def without_limits(enqueue: bytes) -> bytes:
    """Return the policy of an enqueue that no full backlog refuses: its messages were accepted before."""
    policy = msgspec.msgpack.decode(enqueue)
    return _pack({**policy, "max_backlog": 0, "group_backlog": 0})
