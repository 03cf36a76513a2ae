"""The adapter interface. Third-party adapters import its names from here."""

from relay.http.request import Request, Response
from relay.provider.base import HttpProvider, OptionsT, Provider
from relay.provider.discovery import AdapterOptions, Adapters, AdapterType, discover

__all__ = [
    "AdapterOptions",
    "AdapterType",
    "Adapters",
    "HttpProvider",
    "OptionsT",
    "Provider",
    "Request",
    "Response",
    "discover",
]
