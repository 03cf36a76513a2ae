"""Options of providers that speak HTTP: TLS, proxy, number of connections."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from relay.settings.options import ProviderOptions
from relay.settings.values import Count, Secret

# No example with a password, because errors mask everything that looks like one.
_PROXY = "must be the URL of an HTTP proxy, such as http://127.0.0.1:3128, without a path"


class HttpOptions(ProviderOptions):
    """Options of TLS, proxy and connections. Each secret may be in a file, such as `ca_file` for `ca`."""

    ca: Secret | None = None
    """PEM certificates of authorities to trust in addition to the system's."""
    client_cert: Secret | None = None
    """PEM client certificate with its chain, for mutual TLS. Needs `client_key`."""
    client_key: Secret | None = None
    """PEM private key of `client_cert`, not encrypted."""
    proxy: Secret | None = None
    """URL of an HTTP proxy, such as `http://USER:PASSWORD@HOST:PORT`. Default: no proxy."""
    connections: Annotated[Count, Field(le=1000)] | None = None
    """Maximum number of connections, per process. Default: `concurrency`; over HTTP/2 a hundredth of it."""

    @field_validator("ca", "client_cert", "client_key", mode="after")
    @classmethod
    def _has_line_breaks(cls, value: Secret | None) -> Secret | None:
        return None if value is None else Secret(pem_text(value.get_secret_value()))

    @field_validator("ca")
    @classmethod
    def _are_authorities(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            _certificates(value)
        return value

    @field_validator("client_cert")
    @classmethod
    def _is_certificate(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            _certificates(value)
        return value

    @field_validator("client_key")
    @classmethod
    def _is_key(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            _public_part(value)
        return value

    @field_validator("proxy")
    @classmethod
    def _is_proxy(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            _check_proxy(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("`client_cert` and `client_key` must be set together")
        if (
            self.client_cert is not None
            and self.client_key is not None
            and _certificates(self.client_cert)[0] != _public_part(self.client_key)
        ):
            raise ValueError("client_key is not the key of client_cert (of its first certificate)")
        return self


def pem_text(text: str) -> str:
    """Return a PEM with real line breaks. Environment variables often contain `\\n` instead."""
    return text.replace("\\n", "\n") if "-----BEGIN" in text else text


def _certificates(pem: Secret) -> list[bytes]:
    """Return the public keys of PEM certificates in DER. Raises ValueError."""
    from cryptography import x509  # slow to import, and seldom needed

    try:
        found = x509.load_pem_x509_certificates(pem.get_secret_value().encode())
    except ValueError:
        raise ValueError("must be PEM certificates (-----BEGIN CERTIFICATE-----)") from None
    return [_der(certificate.public_key()) for certificate in found]


def _public_part(pem: Secret) -> bytes:
    """Return the public key of a PEM private key in DER. Raises ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return _der(load_pem_private_key(pem.get_secret_value().encode(), None).public_key())
    except TypeError:
        raise ValueError("the key is encrypted; decrypt it with `openssl pkey`") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a PEM private key (-----BEGIN PRIVATE KEY-----)") from None


def _der(key: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded


def _check_proxy(url: str) -> None:
    """Raises ValueError. The error does not quote the URL, which may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(_PROXY) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(_PROXY)
