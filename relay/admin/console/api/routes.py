"""All routes of the API. A new module of routes is added here."""

from __future__ import annotations

from typing import Final

from relay.admin.console.api import (
    audit,
    configuration,
    dead,
    feedback,
    fleet,
    lanes,
    messages,
    queues,
    workers,
)
from relay.admin.console.api.route import Route

ROUTES: Final[tuple[Route, ...]] = (
    *fleet.ROUTES,
    *queues.ROUTES,
    *lanes.ROUTES,
    *dead.ROUTES,
    *messages.ROUTES,
    *audit.ROUTES,
    *feedback.ROUTES,
    *configuration.ROUTES,
    *workers.ROUTES,
)
