"""Options of the sandbox: where to listen, the valid credentials, and the faults to inject."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from relay.settings.durations import format_duration, parse_duration
from relay.settings.values import Duration, Rate


def parse_share(value: object) -> float:
    """Read a share from 0 to 1: a number, or a text such as `5%`. Raises ValueError."""
    text = str(value).strip()
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r} is not a share; write 5% or 0.05")
    return share


def parse_latency(value: object) -> tuple[float, float]:
    """Read a range of seconds: `50ms`, or `10ms-200ms`.

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
    """Return the text that `parse_latency` reads."""
    first, last = (format_duration(seconds) for seconds in latency)
    return first if first == last else f"{first}-{last}"


Share = Annotated[float, BeforeValidator(parse_share)]
Latency = Annotated[
    tuple[float, float], BeforeValidator(parse_latency), PlainSerializer(format_latency, when_used="json")
]
Status = Annotated[int, Field(ge=200, le=599)]
Seconds = Annotated[int, Field(ge=0, le=10**9)]


class Faults(BaseModel):
    """Faults to inject into all requests, or into those of one provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fail: Share = 0.0
    """Share of requests that fail with `status`. Default: all of them if `status`, `reason`, `retry_after` or
    `times` is given, otherwise none."""
    status: Status = 500
    """Status of failed requests."""
    reason: Annotated[str, Field(max_length=100)] = ""
    """The provider's own word for the failure, such as Shutdown (apns) or QUOTA_EXCEEDED (fcm)."""
    unregistered: Share = 0.0
    """Share of messages whose device or endpoint is gone, for providers that have such an answer."""
    retry_after: Seconds | None = None
    """Retry-After header of failed requests, in seconds."""
    times: Annotated[int, Field(ge=1)] | None = None
    """Number of requests that fail before requests succeed again. Default: no limit."""
    latency: Latency = (0.0, 0.0)
    """Delay of every answer."""
    rate_limit: Rate | None = None
    """Rate of messages. Messages above it are answered with 429 and Retry-After."""
    burst: Annotated[int, Field(ge=1)] | None = None
    """Burst of `rate_limit`. Default: the messages of a tenth of a second, at least 10."""
    hang: Share = 0.0
    """Share of requests that are never answered."""
    reset: Share = 0.0
    """Share of requests whose connection is closed in the middle of the answer."""
    provider: str | None = None
    """Inject into requests to this provider only. Default: all providers."""

    @property
    def failing(self) -> float:
        """Return the share of requests that fail. A `status` without `fail` means every request."""
        if "fail" in self.model_fields_set:
            return self.fail
        return 1.0 if self.model_fields_set & {"status", "reason", "retry_after", "times"} else 0.0


class RequestFaults(BaseModel):
    """Faults that a webhook's URL asks for: `?status=503&retry_after=2&times=3&delay=50ms`.

    Other parameters belong to the application and are ignored.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Status | None = None
    retry_after: Seconds | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    """Number of requests with the same webhook-id that fail before they succeed. Default: no limit."""
    delay: Duration = 0.0
    hang: bool = False
    reset: bool = False


@dataclass(frozen=True)
class SandboxOptions:
    """Addresses to listen on, and valid credentials. Port 0: any free port.

    `apns_port` is the port of the HTTP/2 server; None: the one after `port`, or any free port if that is
    taken. `apns_topic` is an app's bundle id; if empty, every topic is accepted. `folder` keeps certificates
    and keys; without it they are new at each start. `token` opens the sandbox's own pages, which show
    messages and keys; without it they are open to programs and pages of this host only. `webhook_secret` is
    `whsec_` and base64, or `whsk_` and an Ed25519 key; if empty, webhooks need no signature. `seed` makes the
    faults repeatable.
    """

    host: str = "127.0.0.1"
    port: int = 0
    app_id: str = "1"
    key: str = "sandbox-key"
    secret: str = "sandbox-secret"  # noqa: S105 - of an emulator
    webhook_secret: str = "whsec_" + base64.b64encode(b"relay-sandbox-webhook-secret-key").decode()
    apns_port: int | None = None
    apns_key_id: str = "RELAYKEY01"
    apns_team_id: str = "RELAYTEAM1"
    apns_topic: str = "com.example.app"
    folder: Path | None = None
    faults: Faults = field(default_factory=Faults)
    seed: int | None = None
    token: str = ""
