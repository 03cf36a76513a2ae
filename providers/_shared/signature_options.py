"""The option `signature`: the format of a webhook's signature, and the header that holds it."""

from __future__ import annotations

from pydantic import field_validator

from relay.settings.options import Options

from .webhook_limits import check_signature_header
from .webhook_signing import FORMATS, FormatName, SignatureFormat


class SignatureOptions(Options):
    """Format and header of the signature."""

    format: FormatName = "standard"
    """Format of the signature. `standard`: Standard Webhooks. `hub`: `sha256=<hex>` over the body.
    `timestamped`: `t=<seconds>,v1=<hex>`."""
    header: str | None = None
    """Name of the header. Default: `webhook-signature`, or `X-Hub-Signature-256` with `hub`."""

    @field_validator("header")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None:
            check_signature_header(value)
        return value

    @property
    def form(self) -> SignatureFormat:
        """The functions of the format."""
        return FORMATS[self.format]

    @property
    def header_name(self) -> str:
        """The header's name in lower case."""
        return (self.header or self.form.header).lower()
