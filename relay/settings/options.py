"""The options that every provider has. An adapter subclasses `ProviderOptions` and adds its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from relay.settings.values import Count, Duration, Rates, Switch

Share = Annotated[float, Strict(), Field(ge=0, le=0.5)]

BURST_SECONDS = 0.1
"""Seconds' worth of a rate that may go out at once where `burst` says nothing."""


class Options(BaseModel):
    """The base of every section of the file: no unknown keys, no change once it is read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        # A command that reads a file with one adapter builds the validators of one adapter.
        defer_build=True,
    )


class RetryOptions(Options):
    """When a delivery that failed is tried again: exponential backoff with full jitter."""

    attempts: Count = 10
    """Attempts in all; after the last one the message is a dead letter."""
    base: Duration = 1.0
    """The longest wait before the second attempt; it doubles with each further one."""
    max: Duration = 3600.0
    """The longest wait of all. A provider's own Retry-After wins."""


class BreakerOptions(Options):
    """When a provider that fails is left in peace."""

    failures: Count = 20
    """Failures in a row that open the breaker."""
    share: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.5
    """The share of failures that opens it too, of at least twice `failures` within `window`; 0: none."""
    window: Duration = 60.0
    """How long deliveries count for the share, from a first failure on."""
    cooldown: Duration = 30.0
    """The time until one message probes whether the provider is back."""


class DeadOptions(Options):
    """How many dead letters are kept, and for how long. Others are deleted, counted and logged."""

    keep: Duration = 14 * 86400.0
    """The age at which a dead letter is deleted; 0: never."""
    most: Annotated[int, Strict(), Field(ge=0)] = 1_000_000
    """The most dead letters; beyond it the oldest are deleted. 0: any number."""


class ShareOptions(Options):
    """The shares of lower priorities while higher ones have a standing backlog."""

    normal: Share = 0.1
    """The least share of normal messages, 0 to 0.5."""
    low: Share = 0.05
    """The least share of low ones."""


class ProviderOptions(Options):
    """One entry under `providers`. Durations are in seconds."""

    type: str
    """The adapter; `relay providers` lists those that are here."""
    rate: Rates = ()
    """Messages, over the whole fleet: 100/s, 600000/m, 20/10s. With several, all apply. Absent: unlimited."""
    burst: Count | None = None
    """Messages that may go out at once (the bucket's size). Absent: a tenth of a second's worth, or 1."""
    warmup: Duration = 0.0
    """The climb from a tenth of the rate to all of it, after an idle or open time."""
    concurrency: Annotated[Count, Field(le=10_000)] = 64
    """Requests in flight, per process."""
    timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """The longest that one request may take."""
    retry: RetryOptions = RetryOptions()
    """Retries after a failure."""
    adaptive: Switch = False
    """Halve the rate at each wave of 429, climb back in between."""
    breaker: BreakerOptions = BreakerOptions()
    """When a provider that fails is left in peace."""
    ttl: Annotated[Duration, Field(gt=0)] | None = None
    """Default TTL of messages without one. Absent: they never expire."""
    dedup_window: Duration = 0.0
    """How long the id of a delivered message is remembered, so that a second one is a duplicate."""
    max_backlog: Count | None = None
    """Messages that may wait; `overflow` says which go beyond it. Absent: any number."""
    overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    """Which message goes when `max_backlog` is reached."""
    dead: DeadOptions = DeadOptions()
    """How many dead letters are kept, and for how long."""
    shares: ShareOptions = ShareOptions()
    """High goes before normal before low, but a standing backlog leaves each its share."""
    order: Literal["fifo", "lifo"] = "fifo"
    """fifo: the oldest message first. lifo: the newest first."""

    @property
    def each_destination(self) -> bool:
        """Whether the rate is one for each destination, and not one for all."""
        return False

    def redis_names(self) -> Mapping[str, str]:
        """The options that name a key or a channel in Redis, each with that name: none may be relay's own."""
        return {}

    def warnings(self) -> Sequence[str]:
        """Settings that are allowed but seldom right, each with what to do; `relay check` prints them."""
        return ()

    def bursts(self) -> tuple[int, ...]:
        """The bucket's size in messages, one for each rate."""
        if self.burst is not None:
            return (self.burst,) * len(self.rate)
        # The grain of a float must not turn 10 into 9.
        return tuple(max(1, int(rate.per_second * BURST_SECONDS + 1e-9)) for rate in self.rate)


class DestinationOptions(ProviderOptions):
    """Options of providers that have many hosts behind them."""

    rate_per: Literal["provider", "host"] = "provider"
    """host: `rate` and `burst` apply to each host, and one that throttles holds its own messages only."""

    @property
    def each_destination(self) -> bool:
        return self.rate_per == "host"
