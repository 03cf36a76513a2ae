"""The import path by which adapters of others know `relay.settings.options`."""

from relay.settings.options import ProviderOptions

__all__ = ["ProviderOptions"]
