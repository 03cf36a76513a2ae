"""aiohttp against real sockets: what it has of its own.

What both transports share is in test_both_transports.py.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay import __version__
from relay.errors import TransportError
from relay.http import ForbiddenAddress, Unsendable, open_transport
from relay.http.aiohttp_transport import AiohttpTransport
from relay.http.resolver import ThreadResolver
from relay.provider import Request
from testing.builders import options
from testing.raw_server import (
    keeps_answering,
    linger_zero,
    read_request,
    says,
    serving,
    silent_address,
    was_read,
)

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Names(AbstractResolver):
    """Resolves every name to the given addresses; counts how often it is asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def opened(
    timeout: float = 30,
    allowed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = (),
    resolver: Names | None = None,
) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(timeout=timeout, concurrency=8, allowed=allowed, resolver=resolver)
    try:
        yield transport
    finally:
        await transport.close()


# What goes out and what comes back


async def test_a_request_goes_out_byte_for_byte() -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as transport:
        url = f"http://127.0.0.1:{port}/a%41%2fb%2C/../c?x=%2C|&q=%E2#fragment"
        response = await transport.send(Request(url, b'{"a": 1}', {"Content-Type": "x/y"}))
    assert (response.status, response.body) == (200, b"{}")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a%41%2fb%2C/../c?x=%2C|&q=%E2 HTTP/1.1"
    assert f"User-Agent: relay/{__version__}" in lines
    assert "Content-Type: x/y" in lines
    assert body == b'{"a": 1}'
    assert not any(line.lower().startswith(("accept-encoding", "cookie")) for line in lines)


async def test_an_empty_body_has_a_length_and_no_type() -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as transport:
        await transport.send(Request(f"http://127.0.0.1:{port}"))
    assert seen[0].startswith(b"POST / HTTP/1.1\r\n")
    assert b"Content-Length: 0\r\n" in seen[0]
    assert b"Content-Type" not in seen[0]


async def test_an_address_in_a_short_form_can_never_be_sent() -> None:
    async with opened() as transport:
        with pytest.raises(Unsendable):
            await transport.send(Request("http://127.1/"))


async def test_a_line_break_in_a_path_is_escaped_or_refused() -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as transport:
        await transport.send(Request(f"http://127.0.0.1:{port}/a\r\nX: y"))
    assert b"\r\nX: y" not in seen[0]


# Connections that the other side has closed


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_an_answer_that_breaks_off_is_not_asked_for_twice(end: str) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"Content-Length: 0\r\n\r\n", b"Content-Length: 9\r\n\r\nshort"):
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\n" + answer)
            await was_read(writer)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
        with pytest.raises(TransportError, match=r"broke off|closed the connection"):
            await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
    assert len(seen) == 2


# TLS


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that no authority knows, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_a_self_signed_certificate_is_refused(self_signed: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed)
    async with serving(keeps_answering([]), context) as port, opened() as transport:
        with pytest.raises(
            TransportError, match=f"^TLS: the certificate of localhost:{port} is refused: "
        ) as caught:
            await transport.send(Request(f"https://localhost:{port}/"))
    assert not isinstance(caught.value, Unsendable)


async def test_a_known_certificate_is_accepted(self_signed: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed)
    trusting = ssl.create_default_context(cafile=str(self_signed))
    transport = AiohttpTransport(timeout=5, concurrency=1, context=trusting)
    async with serving(keeps_answering([]), context) as port:
        assert (await transport.send(Request(f"https://localhost:{port}/"))).status == 200
        await transport.close()


# Addresses that lead nowhere


@pytest.mark.parametrize("public_only", [False, True])
async def test_a_name_with_an_address_where_nobody_listens_is_reached_at_the_other(public_only: bool) -> None:
    """IPv6 first, as resolvers give it; the server is at 127.0.0.1 alone."""
    both = (*LOOPBACK, ipaddress.ip_network("::1/128"))
    async with (
        serving(keeps_answering([])) as port,
        opened(allowed=both, resolver=Names("::1", "127.0.0.1")) as transport,
    ):
        request = Request(f"http://both.example:{port}/", b"x", public_only=public_only)
        assert (await transport.send(request)).status == 200


@pytest.mark.parametrize("dead", ["2606:4700::1", "127.0.0.2"], ids=["no route", "silence"])
async def test_an_address_without_an_answer_comes_before_a_good_one(dead: str) -> None:
    """Happy eyeballs (RFC 8305): the next address is tried before the first has timed out."""
    started = time.monotonic()
    async with (
        serving(keeps_answering([])) as port,
        opened(timeout=900, resolver=Names(dead, "127.0.0.1")) as transport,
    ):
        with silent_address(port):
            response = await transport.send(Request(f"http://both.example:{port}/", b"x"))
    assert response.status == 200
    assert time.monotonic() - started < 120


class StuckResolver:
    """A system whose name servers do not answer for some names, until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.look)

    def look(self, host: str, *more: Any, **options: Any) -> Any:
        self.asked.append(host)
        if host.endswith(".stuck.example"):
            self.gate.wait(600)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._real(host, *more, **options)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckResolver]:
    running = StuckResolver(monkeypatch)
    yield running
    running.gate.set()


async def test_a_name_server_that_does_not_answer_ends_with_the_time_limit(stuck: StuckResolver) -> None:
    async with opened(timeout=0.1) as transport:
        with pytest.raises(TransportError, match=r"^no answer within 0\.1 s$"):
            await transport.send(Request("http://a.stuck.example/", b"x"))


async def test_names_that_are_not_found_hold_up_no_other_provider(stuck: StuckResolver) -> None:
    """A message can bring any name, and the threads that look names up are few."""
    async with opened() as bad, opened() as good, serving(keeps_answering([])) as port:
        slow = [
            asyncio.create_task(bad.send(Request(f"http://{number}.stuck.example/", public_only=True)))
            for number in range(8)
        ]
        while len(stuck.asked) < 8:
            await asyncio.sleep(0.001)
        async with asyncio.timeout(120):
            assert (await good.send(Request(f"http://localhost:{port}/", b"x"))).status == 200
        stuck.gate.set()
        for result in await asyncio.gather(*slow, return_exceptions=True):
            assert "DNS: " in str(result)


async def test_lookups_of_one_provider_are_bounded_and_their_places_come_free(stuck: StuckResolver) -> None:
    resolver = ThreadResolver(lookups=2)
    callers = [asyncio.create_task(resolver.resolve(f"{number}.stuck.example")) for number in range(5)]
    while len(stuck.asked) < 2:
        await asyncio.sleep(0.001)
    callers[0].cancel()  # its thread goes on, and counts
    await asyncio.sleep(0.01)
    assert len(stuck.asked) == 2
    stuck.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, OSError) for result in results[1:])
    assert {result["host"] for result in await resolver.resolve("127.0.0.1")} == {"127.0.0.1"}
    with pytest.raises(OSError):
        await resolver.resolve("none.invalid")
    with pytest.raises(UnicodeError):
        await resolver.resolve("a" * 70)


# The guard


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "http://[::1]:{}/",
        "http://[::ffff:127.0.0.1]:{}/",
        "http://0.0.0.0:{}/",
        "http://[::]:{}/",
        "http://localhost:{}/",
        "http://LOCALHOST:{}/",
        "http://0x7f000001:{}/",
        "http://①②⑦.⓪.⓪.①:{}/",
    ],
)
async def test_a_public_request_does_not_reach_this_host(url: str) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(Request(url.format(port), b"x", public_only=True))
    assert not seen
    if "0x" not in url:  # some resolvers know this form, and some do not
        assert isinstance(caught.value, ForbiddenAddress)


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("127.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "::1"),
        ("::1", "fe80::1%lo", "169.254.169.254"),
    ],
)
async def test_a_name_that_leads_to_private_addresses_is_forbidden(addresses: tuple[str, ...]) -> None:
    async with opened(resolver=Names(*addresses)) as transport:
        with pytest.raises(
            ForbiddenAddress, match=r"^evil\.example: .* is a loopback address; `allow_private`"
        ):
            await transport.send(Request("http://evil.example:1/", public_only=True))


async def test_a_name_that_leads_to_both_is_reached_at_its_public_address_only() -> None:
    seen: list[bytes] = []
    async with (
        serving(keeps_answering(seen)) as port,
        # The loopback address, allowed here, plays the public one.
        opened(allowed=LOOPBACK, resolver=Names("10.255.255.1", "127.0.0.1")) as transport,
    ):
        response = await transport.send(Request(f"http://both.example:{port}/", public_only=True))
    assert response.status == 200
    assert len(seen) == 1


async def test_a_name_is_checked_again_at_each_new_connection() -> None:
    names = Names("127.0.0.1")
    async with (
        serving(says(b"HTTP/1.0 200 OK\r\n\r\n")) as port,
        opened(allowed=LOOPBACK, resolver=names) as transport,
    ):
        await transport.send(Request(f"http://one.example:{port}/", public_only=True))
        names.addresses = ("10.0.0.1",)
        with pytest.raises(ForbiddenAddress, match=r"10\.0\.0\.1 is a private address"):
            await transport.send(Request(f"http://two.example:{port}/", public_only=True))


async def test_a_connection_that_was_opened_unguarded_serves_no_guarded_request() -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as transport:
        await transport.send(Request(f"http://127.0.0.1:{port}/"))
        with pytest.raises(ForbiddenAddress):
            await transport.send(Request(f"http://127.0.0.1:{port}/", public_only=True))
    assert len(seen) == 1


async def test_an_allowed_network_is_reached() -> None:
    transport = open_transport(options(timeout=5, concurrency=1), allowed=list(LOOPBACK))
    async with serving(keeps_answering([])) as port:
        assert (await transport.send(Request(f"http://127.0.0.1:{port}/", public_only=True))).status == 200
        await transport.close()


async def test_a_name_without_addresses_is_not_resolved() -> None:
    async with opened(resolver=Names()) as transport:
        with pytest.raises(TransportError, match=r"^DNS: none\.example cannot be resolved"):
            await transport.send(Request("http://none.example/", public_only=True))
