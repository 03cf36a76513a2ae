"""Limits the failed log-ins of each address, so that a token cannot be guessed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address


@dataclass(frozen=True, slots=True)
class AttemptTuning:
    """A token bucket of failures for each address."""

    burst: int = 10
    """Failures in a row until an address has to wait."""
    seconds: float = 6.0
    """Seconds until an address may fail again."""
    addresses: int = 1000
    """Addresses that are remembered. A further one replaces the one that failed the longest time ago."""


class Attempts:
    """The failures by address. Of IPv6, a whole /64 counts as one address, because one host can have it."""

    def __init__(
        self, tuning: AttemptTuning = AttemptTuning(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tuning = tuning
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()
        """By address: the time at which all of its failures are forgotten."""

    def wait(self, address: str) -> float:
        """Return the seconds until this address may try again; 0 if it may now."""
        until = self._until.get(_network(address))
        if until is None:
            return 0.0
        tuning = self._tuning
        return max(0.0, until - self._clock() - (tuning.burst - 1) * tuning.seconds)

    def failed(self, address: str) -> None:
        """Count a failure."""
        network, now = _network(address), self._clock()
        self._until[network] = max(now, self._until.get(network, now)) + self._tuning.seconds
        self._until.move_to_end(network)
        while len(self._until) > self._tuning.addresses:
            self._until.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget the failures of an address."""
        self._until.pop(_network(address), None)


def _network(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return found.exploded[:19]
    return str(found)
