"""The import path of `relay.settings.options` for adapters in other packages."""

from relay.settings.options import ProviderOptions

__all__ = ["ProviderOptions"]
