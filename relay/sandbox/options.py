"""What can be said to the sandbox: where to listen, which credentials are right, and what shall go wrong."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from relay.settings.types import Duration, Rate, parse_duration


def parse_share(value: object) -> float:
    """A share from 0 to 1, from a number or a text such as `5%`. Raises ValueError."""
    try:
        share = (
            float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(str(value))
        )
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r} is not a share; write 5% or 0.05")
    return share


def parse_latency(value: object) -> tuple[float, float]:
    """Seconds from and to, from a duration or two with a dash between: `50ms`, `10ms-200ms`."""
    if isinstance(value, tuple):
        return value
    low, _, high = str(value).partition("-")
    first = parse_duration(low if isinstance(value, str) else value)
    last = parse_duration(high) if high else first
    if last < first:
        raise ValueError(f"{value!r} is not a latency; write 50ms or 10ms-200ms")
    return first, last


Share = Annotated[float, BeforeValidator(parse_share)]


class Faults(BaseModel):
    """What goes wrong, for every request that it applies to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fail: Share = 0.0
    """The share of requests that get `status`."""
    status: Annotated[int, Field(ge=200, le=599)] = 500
    """What a failing request is answered."""
    retry_after: Annotated[int, Field(ge=0)] | None = None
    """The Retry-After header of failing requests, in seconds."""
    times: Annotated[int, Field(ge=1)] | None = None
    """How many requests fail before all is well again. Absent: no end."""
    latency: Annotated[tuple[float, float], BeforeValidator(parse_latency)] = (0.0, 0.0)
    """How long every answer takes."""
    rate_limit: Rate | None = None
    """Messages; what exceeds it is answered 429 with Retry-After."""
    hang: Share = 0.0
    """The share of requests that are never answered."""
    reset: Share = 0.0
    """The share of requests whose connection is closed in the middle of the answer."""
    provider: Literal["pusher", "webhook"] | None = None
    """Only this one. Absent: all."""


class RequestFaults(BaseModel):
    """What the query of one webhook's URL orders: `?status=503&retry_after=2&times=3&delay=50ms`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Annotated[int, Field(ge=200, le=599)] = 200
    retry_after: Annotated[int, Field(ge=0)] | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    delay: Duration = 0.0


@dataclass(frozen=True)
class SandboxOptions:
    """Where to listen and which credentials are right. Port 0: any free one."""

    host: str = "127.0.0.1"
    port: int = 0
    app_id: str = "1"
    key: str = "sandbox-key"
    secret: str = "sandbox-secret"  # noqa: S105 - a stand-in's
    webhook_secret: str = "whsec_" + base64.b64encode(b"relay-sandbox-webhook-secret-key").decode()
    faults: Faults = field(default_factory=Faults)
    seed: int | None = None
