"""Keys and certificates: the sandbox's certificate authority and the certificates that it issues."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import tempfile
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = datetime.timedelta(days=3650)


def new_key() -> bytes:
    """Make a P-256 key, as PEM."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read the key of a PEM text. Raises ValueError, TypeError or UnsupportedAlgorithm."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def belongs(ca: bytes, ca_key: bytes) -> bool:
    """Return whether a certificate belongs to a key."""
    return x509.load_pem_x509_certificate(ca).public_key() == private_key(ca_key).public_key()


def context(ca: bytes, ca_key: bytes, host: str) -> ssl.SSLContext:
    """Return a TLS context for a server that clients reach on this host, as `host`, or by any other name.

    It allows HTTP/2 only and accepts client certificates.
    """

    # Only clients know some names, such as that of a container.
    @lru_cache(maxsize=100)
    def named(name: str) -> ssl.SSLContext:
        return _context(ca, ca_key, name)

    def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            tls.context = named(name)

    made = _context(ca, ca_key, host)
    made.sni_callback = choose
    return made


def _context(ca: bytes, ca_key: bytes, host: str) -> ssl.SSLContext:
    names = _names(host)
    certificate, key = _issue(ca, ca_key, "relay sandbox", names, ExtendedKeyUsageOID.SERVER_AUTH)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["h2"])
    made.verify_mode = ssl.CERT_OPTIONAL
    made.load_verify_locations(cadata=ca.decode())
    # The ssl module reads a server's certificate from a file only.
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + key)
        file.flush()
        made.load_cert_chain(file.name)
    return made


def client(ca: bytes, ca_key: bytes, topic: str) -> tuple[bytes, bytes]:
    """Issue a certificate for a client of APNs, and its key. Its UID is the topic, as in Apple's."""
    return _issue(ca, ca_key, topic, None, ExtendedKeyUsageOID.CLIENT_AUTH)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _names(host: str) -> x509.SubjectAlternativeName:
    """Return the names by which clients reach a server that listens on `host`."""
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys(("127.0.0.1", "::1", "localhost", socket.gethostname(), host)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name.isascii() and name:
                names.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(names)


def authority(pem: bytes) -> bytes:
    """Return the certificate of the authority with this key."""
    key = private_key(pem)
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
    ca: bytes,
    ca_key: bytes,
    name: str,
    names: x509.SubjectAlternativeName | None,
    usage: x509.ObjectIdentifier,
) -> tuple[bytes, bytes]:
    key, signer = ec.generate_private_key(ec.SECP256R1()), private_key(ca_key)
    kind = NameOID.USER_ID if names is None else NameOID.COMMON_NAME
    subject = x509.Name([x509.NameAttribute(kind, name)])
    issuer = x509.load_pem_x509_certificate(ca).subject
    builder = (
        _builder(subject, issuer, key.public_key(), signer.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, SHA256()).public_bytes(Encoding.PEM), _pem(key)


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
