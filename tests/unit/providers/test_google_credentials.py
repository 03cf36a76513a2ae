"""Application Default Credentials: google-auth itself, against a local token endpoint."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from providers._shared.google_token import fetch_by_default_credentials
from relay.errors import TransportError
from testing.raw_server import drips, serving
from testing.receiver import Answer, Receiver, receiving

TOKEN = json.dumps({"access_token": "ya29.a", "expires_in": 3600, "token_type": "Bearer"}).encode()
JSON = {"content-type": "application/json"}
Account = Callable[[str], None]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    """Makes a service account's key the default credentials, with this URL of tokens."""
    key = rsa.generate_private_key(65537, 2048)

    def use(token_uri: str) -> None:
        file = tmp_path / "account.json"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        document = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": pem,
            "client_email": "a@p.iam.gserviceaccount.com",
            "token_uri": token_uri,
        }
        file.write_text(json.dumps(document))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))

    return use


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        running.answer = lambda request: Answer(200, TOKEN, JSON)
        yield running


async def test_a_token_is_fetched_without_proxies_and_passwords_of_the_environment(
    receiver: Receiver, account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    account(f"{receiver.url}/token")
    token, life = await fetch_by_default_credentials(time.time(), 30)
    assert (token, life > 3000) == ("ya29.a", True)
    assert "authorization" not in receiver.requests[0].headers


async def test_a_token_endpoint_that_redirects_is_not_followed(receiver: Receiver, account: Account) -> None:
    receiver.answer = lambda request: Answer(307, headers={"location": f"{receiver.url}/other"})
    account(f"{receiver.url}/token")
    with pytest.raises(TransportError, match="redirects"):
        await fetch_by_default_credentials(time.time(), 30)
    assert {request.path for request in receiver.requests} == {"/token"}


async def test_a_slow_token_endpoint_ends_with_the_timeout(account: Account) -> None:
    async with serving(drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" " * 99_999)) as port:
        account(f"http://127.0.0.1:{port}/token")
        async with asyncio.timeout(120):
            with pytest.raises(TransportError, match=r"no token within 1\.5 s$"):
                await fetch_by_default_credentials(time.time(), 1.5)
