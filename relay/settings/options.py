"""The options that every provider has. An adapter subclasses `ProviderOptions` and adds its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    Strict,
    model_validator,
)
from pydantic_core import CoreSchema

from relay.settings.values import Count, Duration, Rate, Rates, Sample, Switch

Share = Annotated[float, Strict(), Field(ge=0, le=0.5)]

BURST_SECONDS = 0.1
"""The default burst, in seconds of the rate."""


def _none_if_false(value: object) -> object:
    return None if value is False else value


def _none_if_off(value: object) -> object:
    # YAML 1.1 reads `off` as false, and YAML 1.2 as a text.
    return None if value is False or value == "off" else value


class _OrOff:
    """JSON Schema of a section that may be turned off."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        section = handler(schema)
        return {"anyOf": [*section.get("anyOf", [section]), {"enum": [False, "off"]}]}


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


class GroupBreakerOptions(BreakerOptions):
    """Circuit breaker of each group: stop sending to a group that keeps failing."""

    failures: Count = 10
    """Open the breaker after this many failures of the group in a row."""


class GroupOptions(Options):
    """Fair turns and limits for the groups of a lane: tenants, or the hosts that messages go to."""

    by: Literal["destination", "message"] | None = None
    """Group of a message: the host that it goes to (`destination`), or its `group` field (`message`).
    Default: `destination` if messages bring a URL, otherwise `message`."""
    rate: Rates = ()
    """The rate limit of each group, over the fleet. With several rates, all apply. Default: unlimited."""
    burst: Count | None = None
    """Messages of one group that may go out at once. Default: a tenth of a second's worth, at least 1."""
    concurrency: Annotated[int, Strict(), Field(ge=0, le=100_000)] = 16
    """Requests in flight of each group, over the fleet. 0: unlimited."""
    breaker: GroupBreakerOptions = GroupBreakerOptions()
    """Circuit breaker of each group: stop sending to a group that keeps failing."""
    disable_after: Duration = 5 * 86400.0
    """Disable a group after this time with failures and without a single success: its messages become dead
    letters. 0: never."""
    max_backlog: Count | None = None
    """Messages of one group that may wait to be sent. Beyond this number, the provider's `overflow` decides
    which message of the group is dropped. Default: unlimited."""

    def bursts(self) -> tuple[int, ...]:
        """The size of each rate's bucket, in messages."""
        return _bursts(self.rate, self.burst)


class DeadOptions(Options):
    """Limits of the dead letters that are kept. Deletions are counted and logged."""

    keep: Duration = 14 * 86400.0
    """Delete dead letters that are older than this. 0: never."""
    most: Annotated[int, Strict(), Field(ge=0)] = 1_000_000
    """Keep this many dead letters, and delete older ones. 0: unlimited."""


class JournalOptions(Options):
    """Journal of ended messages and failed attempts, for `relay find` and the console."""

    keep: Annotated[Duration, Field(gt=0)] = 7 * 86400.0
    """Delete entries that are older than this."""
    most: Annotated[Count, Field(le=100_000_000)] = 100_000
    """Keep about this many entries of each provider, and delete older ones."""
    sample: Sample = Rate(10)
    """Limit of entries for delivered messages, per process, or `all`. Failures always get one."""

    @property
    def sampled_per_second(self) -> float:
        """The most delivered messages in the journal per second and process; infinite for all."""
        return math.inf if self.sample == "all" else self.sample.per_second


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
    journal: Annotated[JournalOptions | None, BeforeValidator(_none_if_off), _OrOff()] = JournalOptions()
    """Journal of ended messages and failed attempts, for `relay find` and the console. off: none."""
    shares: ShareOptions = ShareOptions()
    """Smallest shares of lower priorities. High goes before normal, and normal before low, but each keeps its
    share."""
    order: Literal["fifo", "lifo"] = "fifo"
    """Order of waiting messages: `fifo` sends the oldest first, `lifo` the newest."""

    groups: Annotated[GroupOptions | None, BeforeValidator(_none_if_false)] = None
    """Serve groups of messages in turns, each with limits of its own. Default: groups by destination if
    messages bring a URL, otherwise none. false: none."""

    @property
    def brings_url(self) -> bool:
        """Whether each message brings the URL that it goes to."""
        return False

    @property
    def lane_rate(self) -> Rates:
        """The rates that all messages of the provider share."""
        return self.rate

    @property
    def group_rules(self) -> GroupOptions | None:
        """The groups of the lane, with `by` resolved; None if there are none."""
        groups = self.groups
        if groups is None and "groups" not in self.model_fields_set and self.brings_url:
            groups = GroupOptions()
        if groups is None or groups.by is not None:
            return groups
        return groups.model_copy(update={"by": "destination" if self.brings_url else "message"})

    def redis_names(self) -> Mapping[str, str]:
        """The options that name a key or channel in Redis, with these names. None may be relay's own."""
        return {}

    def warnings(self) -> Sequence[str]:
        """Warnings about allowed but unwise settings, each with a remedy. `relay check` prints them."""
        return ()

    def bursts(self) -> tuple[int, ...]:
        """The size of each rate's bucket, in messages."""
        return _bursts(self.rate, self.burst)

    @model_validator(mode="after")
    def _has_destinations(self) -> Self:
        if self.groups is not None and self.groups.by == "destination" and not self.brings_url:
            raise ValueError(
                "`groups.by: destination` needs messages that bring a URL; use `by: message` and the `group` "
                "field of messages"
            )
        return self


def _bursts(rates: Rates, burst: int | None) -> tuple[int, ...]:
    if burst is not None:
        return (burst,) * len(rates)
    # Rounding of floats must not turn 10 into 9.
    return tuple(max(1, int(rate.per_second * BURST_SECONDS + 1e-9)) for rate in rates)


class DestinationOptions(ProviderOptions):
    """Options of providers that have many hosts behind them."""

    rate_per: Literal["provider", "host"] = "provider"
    """Scope of `rate` and `burst`: the provider as a whole, or each host. `host` is the same as `groups: {by:
    destination, rate: …}`."""

    @property
    def brings_url(self) -> bool:
        return True

    @property
    def lane_rate(self) -> Rates:
        return () if self.rate_per == "host" else self.rate

    @property
    def group_rules(self) -> GroupOptions | None:
        if self.rate_per == "host":
            return GroupOptions(by="destination", rate=self.rate, burst=self.burst)
        return super().group_rules

    @model_validator(mode="after")
    def _has_one_rate(self) -> Self:
        if self.rate_per == "host" and "groups" in self.model_fields_set:
            raise ValueError(
                "`rate_per: host` is the same as `groups: {by: destination, rate: …}`; use only `groups`"
            )
        return self
