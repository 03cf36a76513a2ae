"""The faults: `REGISTRY` has a class for each name of the catalogue."""

from __future__ import annotations

from chaos.catalogue import KINDS
from chaos.faults.base import Fault
from chaos.faults.machine import MACHINE
from chaos.faults.neighbours import NEIGHBOURS
from chaos.faults.network import NETWORK
from chaos.faults.operators import OPERATORS
from chaos.faults.providers import PROVIDERS
from chaos.faults.redis import REDIS
from chaos.faults.replication import REPLICATION
from chaos.faults.workers import WORKERS

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
