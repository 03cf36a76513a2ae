"""Set the rate of a provider over the whole fleet, for a while or until it is reset.

Every function raises StoreError, and UsageError for an order that cannot be carried out.
"""

from __future__ import annotations

from relay.errors import UsageError
from relay.operations.providers import require_provider
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.settings.values import Rate, parse_rate
from relay.store import audit, override
from relay.store.audit import AuditEntry
from relay.store.fleet import Fleet
from relay.store.override import Override
from relay.text import one_line

MOST_RATES = 10

FASTEST = 1e9
"""Messages per second."""


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Return the rates in a text such as `50/s` or `50/s,1000/h`. Raises UsageError."""
    try:
        rates = tuple(dict.fromkeys(parse_rate(part) for part in text.split(",")))
    except ValueError as error:
        raise UsageError(f"RATE: {error}") from error
    if len(rates) > MOST_RATES:
        raise UsageError(f"RATE: at most {MOST_RATES} rates can apply together, these are {len(rates)}")
    for rate in rates:
        if rate.per_second > FASTEST:
            raise UsageError(f"RATE: {rate} is out of range: the highest is {FASTEST:.0f}/s")
    return rates


async def set_rate(
    client: Client,
    settings: Settings,
    provider: str,
    rates: tuple[Rate, ...],
    *,
    seconds: float | None,
    because: str,
    who: str,
) -> Override:
    """Replace the configured rates of a provider, for some seconds or until `reset_rate`."""
    require_provider(settings, provider)
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    now = await fleet.now()
    until = 0.0 if seconds is None else now + seconds
    order = Override.of(rates, until=until, at=now, by=who, reason=one_line(because))
    await override.set_override(client, prefix, provider, order)
    await fleet.wake([provider])
    why = f"{order.text}: {because}" if because else order.text
    await audit.record(client, prefix, AuditEntry("rate", who, provider, why=why, until=until))
    return order


async def reset_rate(client: Client, settings: Settings, provider: str, *, because: str, who: str) -> bool:
    """Return to the configured rates. Returns whether an operator's rate was in force."""
    require_provider(settings, provider)
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    in_force = await override.read(client, prefix, provider, await fleet.now())
    await override.clear_override(client, prefix, provider)
    await fleet.wake([provider])
    if in_force is not None:
        await audit.record(client, prefix, AuditEntry("rate-reset", who, provider, why=because))
    return in_force is not None
