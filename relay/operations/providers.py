"""Checks the name of a provider that an operator gives."""

from __future__ import annotations

from relay.errors import UsageError
from relay.settings.models import Settings
from relay.text import enumerated, quote


def require_provider(settings: Settings, name: str) -> None:
    """Raise UsageError unless the file names this provider."""
    if name not in settings.providers:
        raise UsageError(
            f"no provider {quote(name)} in {settings.path}; known: {enumerated(settings.providers)}"
        )
