"""The HTTP API: one route for each question and action, with the documents of the command line."""

from relay.admin.console.api.routes import ROUTES
from relay.admin.console.api.serving import handler, openapi

__all__ = ["ROUTES", "handler", "openapi"]
