"""The import path by which adapters of others know `relay.settings.values`."""

from relay.settings.values import Count, Duration, Patterns, Rate, Rates, Secret, Size, Switch

__all__ = ["Count", "Duration", "Patterns", "Rate", "Rates", "Secret", "Size", "Switch"]
