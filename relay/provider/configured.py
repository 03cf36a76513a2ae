"""The adapters of a configuration, and their verdict on messages before these are sent."""

from __future__ import annotations

from relay.message import Message
from relay.message.fan_out import FanOut, expand
from relay.provider.base import Provider
from relay.provider.discovery import discover
from relay.provider.redis import forbid_names
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions


def configured(settings: Settings) -> dict[str, Provider[ProviderOptions]]:
    """Return the configured providers by name, not started."""
    adapters = discover()
    found = {name: adapters[options.type](name, options) for name, options in settings.providers.items()}
    forbid_names(found.values(), settings.own_names)
    return found


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
