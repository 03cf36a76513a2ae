"""Who the sandbox's TLS server is, and whose word it takes: an authority, certificates and a signing key.

Made anew at each start, or kept in a folder so that a configuration stays right.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.errors import UsageError

LIFE = datetime.timedelta(days=3650)

CA, CA_KEY, SIGNING_KEY, CLIENT, CLIENT_KEY = "ca.pem", "ca.key", "apns.p8", "client.pem", "client.key"


@dataclass(frozen=True)
class Identity:
    """PEM texts. `folder` is where they are kept, if anywhere."""

    ca: bytes
    ca_key: bytes
    signing_key: bytes
    """Signs APNs' provider tokens, as the .p8 file that Apple gives."""
    client: bytes
    """A certificate by which a client of APNs may authenticate instead; `client_key` is its key."""
    client_key: bytes
    folder: Path | None = None

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The one that verifies provider tokens."""
        return _private(self.signing_key).public_key()

    def context(self, host: str) -> ssl.SSLContext:
        """TLS for a server that is reached on this host or as `host`: HTTP/2 only, certificates welcome."""
        certificate, key = _issue(self, "relay sandbox", _names(host), ExtendedKeyUsageOID.SERVER_AUTH)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca.decode())
        # The ssl module reads certificates of its own from files only.
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def identify(folder: Path | None, topic: str) -> Identity:
    """The identity that the folder holds; what it lacks is made, and kept there.

    `topic` is the app of the client certificate. Raises UsageError.
    """
    try:
        return _identify(folder, topic)
    except OSError as error:
        raise UsageError(f"--dir: {error.filename or folder}: {error.strerror or error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"--dir: {folder} holds a key or certificate that cannot be read: {error}"
        ) from error


def _identify(folder: Path | None, topic: str) -> Identity:
    if folder is not None:
        folder = folder.resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_key = _kept(folder, CA_KEY, _new_key)
    # A certificate of another key would be of no use: both are made together.
    ca = _kept(folder, CA, lambda: _authority(ca_key))
    if x509.load_pem_x509_certificate(ca).public_key() != _private(ca_key).public_key():
        raise ValueError(f"{CA_KEY} is not the key of {CA}; remove both")
    signing_key = _kept(folder, SIGNING_KEY, _new_key)
    _private(signing_key)
    signer = Identity(ca, ca_key, signing_key, b"", b"")
    if folder is not None and (folder / CLIENT).exists() and (folder / CLIENT_KEY).exists():
        client, client_key = (folder / CLIENT).read_bytes(), (folder / CLIENT_KEY).read_bytes()
    else:
        client, client_key = _issue(signer, topic or "any", None, ExtendedKeyUsageOID.CLIENT_AUTH)
        for name, pem in ((CLIENT, client), (CLIENT_KEY, client_key)):
            _keep(folder, name, pem)
    return Identity(ca, ca_key, signing_key, client, client_key, folder)


def _kept(folder: Path | None, name: str, make: Callable[[], bytes]) -> bytes:
    if folder is not None and (folder / name).exists():
        return (folder / name).read_bytes()
    pem = make()
    _keep(folder, name, pem)
    return pem


def _keep(folder: Path | None, name: str, pem: bytes) -> None:
    if folder is not None:
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(pem)


def _new_key() -> bytes:
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def _names(host: str) -> x509.SubjectAlternativeName:
    """How clients may call a server that listens on `host`."""
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys(("127.0.0.1", "::1", "localhost", socket.gethostname(), host)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name.isascii() and name:
                names.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(names)


def _authority(pem: bytes) -> bytes:
    key = _private(pem)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay sandbox authority")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(name, name, key.public_key(), key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )


def _issue(
    signer: Identity, name: str, names: x509.SubjectAlternativeName | None, usage: x509.ObjectIdentifier
) -> tuple[bytes, bytes]:
    """A certificate and its key. That of a client has its topic as UID, as Apple's have."""
    key, ca_key = ec.generate_private_key(ec.SECP256R1()), _private(signer.ca_key)
    kind = NameOID.USER_ID if names is None else NameOID.COMMON_NAME
    subject = x509.Name([x509.NameAttribute(kind, name)])
    issuer = x509.load_pem_x509_certificate(signer.ca).subject
    builder = (
        _builder(subject, issuer, key.public_key(), ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(ca_key, SHA256()).public_bytes(Encoding.PEM), _pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, own: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )
