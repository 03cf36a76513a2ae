"""Options of providers that have connections of their own to a fixed host."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from relay.settings.provider import ProviderOptions
from relay.settings.types import Secret


class HttpOptions(ProviderOptions):
    """TLS towards the provider; each may also stand in a file, as `ca_file` and so on."""

    ca: Secret | None = None
    """PEM certificates of authorities that are trusted beside the system's."""
    client_cert: Secret | None = None
    """PEM certificate (with its chain) by which we authenticate; needs `client_key`."""
    client_key: Secret | None = None
    """The PEM private key of `client_cert`, not encrypted."""

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("client_cert and client_key go together")
        return self
