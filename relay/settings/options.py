"""The options that every provider has. An adapter subclasses `ProviderOptions` and adds its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from relay.settings.values import Count, Duration, Rates, Switch

Share = Annotated[float, Strict(), Field(ge=0, le=0.5)]

BURST_SECONDS = 0.1
"""The default burst, in seconds of the rate."""


class Options(BaseModel):
    """The base of every section of the file. It allows no unknown keys, and is immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        # A command that reads a file with one adapter builds the validators of one adapter.
        defer_build=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Put each description into one line: errors, tables and the schema show it."""
        super().__pydantic_init_subclass__(**kwargs)
        for field in cls.model_fields.values():
            if field.description:
                field.description = " ".join(field.description.split())


class RetryOptions(Options):
    """Retries of failed deliveries: exponential backoff with full jitter."""

    attempts: Count = 10
    """Attempts in total. After the last one the message becomes a dead letter."""
    base: Duration = 1.0
    """Longest wait before the second attempt. It doubles with each further attempt."""
    max: Duration = 3600.0
    """Longest wait before any attempt. The provider's Retry-After takes precedence."""


class BreakerOptions(Options):
    """Circuit breaker: stop sending to a provider that keeps failing."""

    failures: Count = 20
    """Open the breaker after this many failures in a row."""
    share: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.5
    """Open the breaker also if this share of the deliveries within `window` failed, of at least twice
    `failures` deliveries. 0: off."""
    window: Duration = 60.0
    """Count `share` over this time, which starts with a failure."""
    cooldown: Duration = 30.0
    """Send one message as a probe after this time."""


class DeadOptions(Options):
    """Limits of the dead letters that are kept. Deletions are counted and logged."""

    keep: Duration = 14 * 86400.0
    """Delete dead letters that are older than this. 0: never."""
    most: Annotated[int, Strict(), Field(ge=0)] = 1_000_000
    """Keep this many dead letters, and delete older ones. 0: unlimited."""


class ShareOptions(Options):
    """Smallest shares of lower priorities while higher ones have a backlog."""

    normal: Share = 0.1
    """Smallest share of messages with normal priority."""
    low: Share = 0.05
    """Smallest share of messages with low priority."""


class ProviderOptions(Options):
    """One entry under `providers`. Durations are in seconds."""

    type: str
    """Adapter of this provider. `relay providers` lists the installed adapters."""
    rate: Rates = ()
    """Rate limit of the whole fleet, in messages. With several rates, all apply. Default: unlimited."""
    burst: Count | None = None
    """Messages that may go out at once (the size of the token bucket). Default: a tenth of a second's worth
    of `rate`, at least 1."""
    warmup: Duration = 0.0
    """Climb from a tenth of the rate to the full rate within this time after the lane was idle or its breaker
    open."""
    concurrency: Annotated[Count, Field(le=10_000)] = 64
    """Requests in flight at the same time, per process."""
    timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Timeout of one request."""
    retry: RetryOptions = RetryOptions()
    """Retries of failed deliveries: exponential backoff with full jitter."""
    adaptive: Switch = False
    """Halve the rate at each wave of 429 responses, and raise it slowly in between."""
    breaker: BreakerOptions = BreakerOptions()
    """Circuit breaker: stop sending to a provider that keeps failing."""
    unregistered_share: Annotated[float, Strict(), Field(ge=0, le=1)] = 1.0
    """Hold the lane, before applications learn of unregistered targets, if they are this share of 20 or more
    targets within `breaker.window`. 1: if 20 in a row are unregistered. 0: never."""
    ttl: Annotated[Duration, Field(gt=0)] | None = None
    """Default TTL, for messages without one. Default: never expire."""
    dedup_window: Duration = 0.0
    """Remember the ids of delivered messages for this long. Another message with such an id is a
    duplicate."""
    max_backlog: Count | None = None
    """Messages that may wait. Beyond this number, `overflow` decides which message is dropped. Default:
    unlimited."""
    overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    """Message that is dropped beyond `max_backlog`: the oldest or the newest."""
    dead: DeadOptions = DeadOptions()
    """Limits of the dead letters that are kept. Deletions are counted and logged."""
    shares: ShareOptions = ShareOptions()
    """Smallest shares of lower priorities. High goes before normal, and normal before low, but each keeps its
    share."""
    order: Literal["fifo", "lifo"] = "fifo"
    """Order of waiting messages: `fifo` sends the oldest first, `lifo` the newest."""

    @property
    def each_destination(self) -> bool:
        """Whether each destination has a rate of its own."""
        return False

    def redis_names(self) -> Mapping[str, str]:
        """The options that name a key or channel in Redis, with these names. None may be relay's own."""
        return {}

    def warnings(self) -> Sequence[str]:
        """Warnings about allowed but unwise settings, each with a remedy. `relay check` prints them."""
        return ()

    def bursts(self) -> tuple[int, ...]:
        """The size of each rate's bucket, in messages."""
        if self.burst is not None:
            return (self.burst,) * len(self.rate)
        # Rounding of floats must not turn 10 into 9.
        return tuple(max(1, int(rate.per_second * BURST_SECONDS + 1e-9)) for rate in self.rate)


class DestinationOptions(ProviderOptions):
    """Options of providers that have many hosts behind them."""

    rate_per: Literal["provider", "host"] = "provider"
    """Scope of `rate` and `burst`: the provider as a whole, or each host. With `host`, a host that throttles
    holds only its own messages."""

    @property
    def each_destination(self) -> bool:
        return self.rate_per == "host"
