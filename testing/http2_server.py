"""A real HTTP/2 server over TLS on a free loopback port, for providers that speak only HTTP/2."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

from testing.receiver import Answer, Received


def certificates(folder: Path, *, days: int = 1) -> tuple[Path, Path, Path]:
    """Issue a certificate for 127.0.0.1. Returns the PEM files of the authority, the certificate and its key.

    The certificate expires in this many days; -1: it expired yesterday.
    """
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("Authority", "Authority", authority_key, authority_key, days=1, ca=True)
    certificate = _certificate("localhost", "Authority", key, authority_key, days=days, ca=False)
    paths = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(authority.public_bytes(Encoding.PEM))
    paths[1].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[2].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def _certificate(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    days: int,
    ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        # These distinguish authorities with the same name.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, SHA256())
    )


@dataclass
class Http2Server:
    """Records every request and answers with `answer`. `connections` counts opened connections."""

    url: str = ""
    ca: Path = Path()
    requests: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Answer] = lambda request: Answer(body=b"")
    connections: int = 0
    goaway_after: int = 0
    """Send GOAWAY after this many requests on a connection; 0: never."""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, number: int, seconds: float = 30) -> list[Received]:
        async with asyncio.timeout(seconds), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= number)
        return self.requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        streams: dict[int, tuple[dict[str, str], bytearray]] = {}
        answered = 0
        try:
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, RequestReceived):
                        streams[event.stream_id] = ({str(k): str(v) for k, v in event.headers}, bytearray())
                    elif isinstance(event, DataReceived):
                        streams[event.stream_id][1].extend(event.data)
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded):
                        await self._reply(connection, event.stream_id, *streams.pop(event.stream_id))
                        answered += 1
                writer.write(connection.data_to_send())
                if self.goaway_after and answered >= self.goaway_after:
                    connection.close_connection()
                    writer.write(connection.data_to_send())
                    break
                await writer.drain()
        except (ConnectionError, ssl.SSLError, ProtocolError):
            pass
        finally:
            writer.close()

    async def _reply(
        self, connection: H2Connection, stream: int, headers: dict[str, str], body: bytearray
    ) -> None:
        plain = {name: value for name, value in headers.items() if not name.startswith(":")}
        received = Received(headers[":method"], headers[":path"], {}, plain, bytes(body))
        self.requests.append(received)
        async with self.arrived:
            self.arrived.notify_all()
        answer = self.answer(received)
        connection.send_headers(stream, [(":status", str(answer.status)), *answer.headers.items()])
        connection.send_data(stream, answer.body, end_stream=True)


@asynccontextmanager
async def http2_serving(folder: Path) -> AsyncIterator[Http2Server]:
    """Run a server. `ca` is the file of its authority."""
    authority, certificate, key = certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    running = Http2Server(ca=authority)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0, ssl=context)
    running.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.close()
