"""The faults: `REGISTRY` has a class for each name of the catalogue."""

from __future__ import annotations

from tests.faults.chaos.catalogue import KINDS
from tests.faults.chaos.faults.base import Fault
from tests.faults.chaos.faults.machine import MACHINE
from tests.faults.chaos.faults.neighbours import NEIGHBOURS
from tests.faults.chaos.faults.network import NETWORK
from tests.faults.chaos.faults.operators import OPERATORS
from tests.faults.chaos.faults.providers import PROVIDERS
from tests.faults.chaos.faults.redis import REDIS
from tests.faults.chaos.faults.replication import REPLICATION
from tests.faults.chaos.faults.workers import WORKERS

REGISTRY: dict[str, type[Fault]] = {
    **WORKERS,
    **MACHINE,
    **REDIS,
    **NEIGHBOURS,
    **NETWORK,
    **PROVIDERS,
    **OPERATORS,
    **REPLICATION,
}

assert REGISTRY.keys() == KINDS.keys(), REGISTRY.keys() ^ KINDS.keys()

__all__ = ["REGISTRY", "Fault"]
