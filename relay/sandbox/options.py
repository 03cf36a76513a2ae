"""What can be said to the sandbox: where to listen, which credentials are right, and what shall go wrong."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from relay.settings.values import Duration, Rate, format_duration, parse_duration


def parse_share(value: object) -> float:
    """A share from 0 to 1, from a number or a text such as `5%`. Raises ValueError."""
    text = str(value).strip()
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r} is not a share; write 5% or 0.05")
    return share


def parse_latency(value: object) -> tuple[float, float]:
    """Seconds from and to, from a duration or two with a dash between: `50ms`, `10ms-200ms`.

    Raises ValueError.
    """
    if isinstance(value, str):
        low, _, high = value.partition("-")
        first = parse_duration(low)
        last = parse_duration(high) if high else first
    else:
        first = last = parse_duration(value)
    if last < first:
        raise ValueError(f"{value!r} is not a latency; write 50ms or 10ms-200ms")
    return first, last


def format_latency(latency: tuple[float, float]) -> str:
    """The text that `parse_latency` reads back."""
    first, last = (format_duration(seconds) for seconds in latency)
    return first if first == last else f"{first}-{last}"


Share = Annotated[float, BeforeValidator(parse_share)]
Latency = Annotated[
    tuple[float, float], BeforeValidator(parse_latency), PlainSerializer(format_latency, when_used="json")
]
Status = Annotated[int, Field(ge=200, le=599)]
Seconds = Annotated[int, Field(ge=0, le=10**9)]


class Faults(BaseModel):
    """What goes wrong, for every request that it applies to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fail: Share = 0.0
    """The share of requests that get `status`. Absent beside `status`, `reason`, `retry_after` or
    `times`: all."""
    status: Status = 500
    """What a failing request is answered."""
    reason: Annotated[str, Field(max_length=100)] = ""
    """The provider's word for it, such as Shutdown, where its errors have one (apns)."""
    unregistered: Share = 0.0
    """The share of messages whose device or endpoint is gone, as far as the provider knows such a thing."""
    retry_after: Seconds | None = None
    """The Retry-After header of failing requests, in seconds."""
    times: Annotated[int, Field(ge=1)] | None = None
    """How many requests fail before all is well again. Absent: no end."""
    latency: Latency = (0.0, 0.0)
    """How long every answer takes."""
    rate_limit: Rate | None = None
    """Messages; what exceeds it is answered 429 with Retry-After."""
    burst: Annotated[int, Field(ge=1)] | None = None
    """Messages of `rate_limit` that may come at once. Absent: a tenth of a second's worth, at least 10."""
    hang: Share = 0.0
    """The share of requests that are never answered."""
    reset: Share = 0.0
    """The share of requests whose connection is closed in the middle of the answer."""
    provider: str | None = None
    """Only this one. Absent: all."""

    @property
    def failing(self) -> float:
        """The share of requests that fail: an order of a status alone means every request."""
        if "fail" in self.model_fields_set:
            return self.fail
        return 1.0 if self.model_fields_set & {"status", "reason", "retry_after", "times"} else 0.0


class RequestFaults(BaseModel):
    """What the query of one webhook's URL orders: `?status=503&retry_after=2&times=3&delay=50ms`.

    Other parameters are the application's own and mean nothing here.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Status | None = None
    retry_after: Seconds | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    """For so many requests with the same webhook-id; then all is well. Absent: no end."""
    delay: Duration = 0.0
    hang: bool = False
    reset: bool = False


@dataclass(frozen=True)
class SandboxOptions:
    """Where to listen and which credentials are right. Port 0: any free one.

    `apns_port`: of APNs' HTTP/2 server; None: the one after `port`, any free one where that is taken.
    `apns_topic`: an app's bundle id; an empty text takes every topic. `folder` keeps the certificates and
    keys of APNs; without one they are new at each start.
    `token` opens the sandbox's own pages, which show messages and keys; without one they are open to programs
    and pages of this host only.
    `webhook_secret`: `whsec_` and base64, or `whsk_` and an Ed25519 key; an empty text
    takes webhooks without a signature.
    `seed` makes the faults repeatable.
    """

    host: str = "127.0.0.1"
    port: int = 0
    app_id: str = "1"
    key: str = "sandbox-key"
    secret: str = "sandbox-secret"  # noqa: S105 - a stand-in's
    webhook_secret: str = "whsec_" + base64.b64encode(b"relay-sandbox-webhook-secret-key").decode()
    apns_port: int | None = None
    apns_key_id: str = "RELAYKEY01"
    apns_team_id: str = "RELAYTEAM1"
    apns_topic: str = "com.example.app"
    folder: Path | None = None
    faults: Faults = field(default_factory=Faults)
    seed: int | None = None
    token: str = ""
