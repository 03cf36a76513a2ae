"""The configuration of a run: providers whose limits suit the number of messages. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.messages import HEALTHY_GROUPS, HEALTHY_LANE, MAX_SIZE, MIXED_LANE
from chaos.plan import Plan

PREFIX = "relay"
QUEUES = ("notifications", "orders", "hits")
WEBHOOKS = ("hook", "limited", "changing", "remembering", "crowded", "failing", "recovering")
GROUPED = (MIXED_LANE, HEALTHY_LANE)
"""Providers that serve groups, one for each receiver that a message's URL names."""

PROVIDERS = (*WEBHOOKS, *GROUPED, "fan", "pusher")
GROUP_CONCURRENCY = 4
DOOMED_ATTEMPTS = 3
TIMEOUT = 2.0
"""Timeout of one request, in seconds."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A provider's limit: messages per second, and the burst."""

    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """`limits` are by provider. `slower` is the limit of `changing` after an odd number of reloads, `group`
    that of each group."""

    limits: Mapping[str, Limit]
    slower: Limit
    backlog: int
    group: Limit

    @classmethod
    def of(cls, plan: Plan) -> Configuration:
        inflow = Counter(push.provider for push in plan.pushes)

        def limit(provider: str, share: float, least: int) -> Limit:
            rate = max(least, round(inflow[provider] / plan.seconds * share))
            return Limit(rate, max(2, rate // 10))

        limits = {
            "limited": limit("limited", 2, 20),
            "changing": limit("changing", 2.5, 20),
            "pusher": limit("pusher", 3, 30),
            "crowded": limit("crowded", 0.5, 3),
        }
        slower = Limit(max(10, round(limits["changing"].rate * 0.7)), limits["changing"].burst)
        backlog = max(10, round(limits["crowded"].rate * 3))
        busiest = max(inflow[provider] for provider in GROUPED) / len(HEALTHY_GROUPS)
        rate = max(10, round(busiest / plan.seconds * 3))
        return cls(limits, slower, backlog, Limit(rate, max(2, rate // 10)))

    def _groups(self) -> dict[str, Any]:
        return {
            "by": "destination",
            "rate": f"{self.group.rate:g}/s",
            "burst": self.group.burst,
            "concurrency": GROUP_CONCURRENCY,
            "breaker": {"failures": 10, "cooldown": "1s"},
        }

    def document(
        self, host: str, redis_url: str, receivers: Mapping[str, str], *, processes: int, slower: bool = False
    ) -> dict[str, Any]:
        """Return the file of one host. Receivers get the host's name in a header or in the path."""
        patient = {"attempts": 1000, "base": "100ms", "max": "1s"}
        common = {
            "timeout": f"{TIMEOUT:g}s",
            "retry": patient,
            "breaker": {"failures": 20, "cooldown": "1s"},
            "concurrency": 32,
        }
        providers: dict[str, dict[str, Any]] = {
            name: {
                "type": "webhook",
                "url": f"{receivers[name]}/{name}",
                "headers": {"X-Host": host},
                **common,
            }
            for name in WEBHOOKS
        }
        providers["fan"] = {"type": "webhook", "allow_private": True, "headers": {"X-Host": host}, **common}
        for name in GROUPED:
            providers[name] = {**providers["fan"], "groups": self._groups()}
        providers["pusher"] = {
            "type": "pusher",
            "app_id": "1",
            "key": "key",
            "secret": "secret",
            "event": "hit",
            "url": f"{receivers['pusher']}/{host}",
            **common,
        }
        for name, limit in self.limits.items():
            providers[name] |= {"rate": f"{limit.rate:g}/s", "burst": limit.burst}
        if slower:
            providers["changing"]["rate"] = f"{self.slower.rate:g}/s"
        providers["remembering"]["dedup_window"] = "1h"
        providers["crowded"] |= {"max_backlog": self.backlog, "overflow": "drop_oldest"}
        providers["failing"]["retry"] = {"attempts": DOOMED_ATTEMPTS, "base": "50ms", "max": "200ms"}
        providers["failing"]["breaker"] = {"failures": 1_000_000, "share": 0}
        own = {"max_size": MAX_SIZE, "providers": ["*"]}
        return {
            "redis": {"url": redis_url, "prefix": PREFIX},
            "queues": [
                {"name": "notifications", "provider": "hook", **own},
                {"name": "orders", "provider": "hook", **own},
                {"name": "hits", "provider": "pusher", "format": "bare"},
            ],
            "providers": providers,
            "processes": processes,
            "admin": {"listen": ""},
            "shutdown_timeout": "5s",
            "log": {"level": "info", "format": "json"},
        }
