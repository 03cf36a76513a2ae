"""Checks a message as a provider's adapter would before it is sent."""

from __future__ import annotations

from relay.message import Message
from relay.message.fan_out import FanOut, expand
from relay.provider import Provider
from relay.settings.options import ProviderOptions


def refused(provider: Provider[ProviderOptions], item: Message | FanOut) -> str:
    """Return why the provider would never accept the message or one of its targets. Empty if it would."""
    if isinstance(item, Message):
        rejected = provider.check(item)
        return rejected.reason if rejected else ""
    first = 0
    for chunk in item.chunks:
        parts = expand(item.message, "", chunk, first)
        for number, part in enumerate(parts, first):
            if rejected := provider.check(part):
                return f"payload.targets[{number}]: {rejected.reason}"
        first += len(parts)
    return ""
