"""The import path of `relay.settings.values` for adapters in other packages."""

from relay.settings.values import Count, Duration, Patterns, Rate, Rates, Secret, Size, Switch

__all__ = ["Count", "Duration", "Patterns", "Rate", "Rates", "Secret", "Size", "Switch"]
