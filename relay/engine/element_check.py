"""Checks an element before it is pushed, as a worker and the provider's adapter would later."""

from __future__ import annotations

from collections.abc import Mapping

from relay.engine.router import Router
from relay.provider import Provider
from relay.provider.configured import refused
from relay.settings.options import ProviderOptions
from relay.store.items import Malformed


def refusal(router: Router, providers: Mapping[str, Provider[ProviderOptions]], element: bytes) -> str:
    """Return why a worker or the provider would refuse the element; empty if it would be sent."""
    provider, item = router.route(element)
    if isinstance(item, Malformed):
        return item.reason
    adapter = providers.get(provider or "")
    return refused(adapter, item) if adapter is not None else ""
