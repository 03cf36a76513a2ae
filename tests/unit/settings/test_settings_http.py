"""TLS, proxies and connections in the file: errors are reported when the file is read, with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from providers.pusher import PusherOptions
from providers.webhook import WebhookOptions
from relay.errors import ConfigError
from relay.settings.load import loads
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from testing.http2_server import certificates

MODELS: dict[str, type[ProviderOptions]] = {"webhook": WebhookOptions, "pusher": PusherOptions}
HEAD = "queues: [{name: a}]\nproviders:\n  p:\n    type: webhook\n"
FIXED = HEAD + "    url: https://example.com/hook\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ca.pem, cert.pem and key.pem, and files in which something is wrong."""
    _, _, key = certificates(tmp_path)
    (tmp_path / "other").mkdir()
    certificates(tmp_path / "other")
    encrypted = load_pem_private_key(key.read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    )
    (tmp_path / "encrypted.pem").write_bytes(encrypted)
    (tmp_path / "nonsense.pem").write_text("hunter2")
    return tmp_path


def read(text: str, folder: Path) -> Settings:
    return loads(text, folder / "relay.yaml", MODELS, {})


def problems(text: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, folder)
    return str(caught.value)


def test_files_are_read_next_to_the_configuration(folder: Path) -> None:
    text = f"{FIXED}    ca_file: ca.pem\n    client_cert_file: cert.pem\n    client_key_file: key.pem\n"
    options = read(text + "    proxy: http://u:p@proxy.example.com:3128\n    connections: 3\n", folder)
    found = options.providers["p"]
    assert isinstance(found, WebhookOptions)
    assert found.ca is not None
    assert found.ca.get_secret_value() == (folder / "ca.pem").read_text().rstrip("\n")
    assert found.connections == 3
    assert "u:p" not in repr(found)
    assert "u:p" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("lines", "place", "word"),
    [
        ("ca_file: nowhere.pem", "6:14: providers.p.ca_file", "cannot read the file"),
        ("ca_file: nonsense.pem", "providers.p.ca", "must be PEM certificates"),
        ("ca_file: key.pem", "providers.p.ca", "must be PEM certificates"),
        ("client_cert_file: cert.pem", "providers.p", "must be set together"),
        ("client_key_file: key.pem", "providers.p", "must be set together"),
        (
            "client_cert_file: cert.pem\n    client_key_file: nonsense.pem",
            "client_key",
            "must be a PEM private key",
        ),
        ("client_cert_file: cert.pem\n    client_key_file: encrypted.pem", "client_key", "is encrypted"),
        ("client_cert_file: cert.pem\n    client_key_file: other/key.pem", "providers.p", "not the key of"),
        ("proxy: 'socks5://hunter2@example.com:1080'", "6:12: providers.p.proxy", "URL of an HTTP proxy"),
        ("proxy: 'http://u:hunter2@example.com:99999'", "6:12: providers.p.proxy", "URL of an HTTP proxy"),
        ("proxy: 'http://u:hunter2@example.com/path'", "6:12: providers.p.proxy", "URL of an HTTP proxy"),
        ("proxy: hunter2", "6:12: providers.p.proxy", "URL of an HTTP proxy"),
        ("connections: 0", "6:18: providers.p.connections", "1"),
    ],
)
def test_an_impossible_option_is_reported_at_its_position(
    folder: Path, lines: str, place: str, word: str
) -> None:
    text = problems(f"{FIXED}    {lines}\n", folder)
    assert place in text
    assert word in text
    assert "hunter2" not in text


def test_all_problems_of_a_provider_are_reported_at_once(folder: Path) -> None:
    text = problems(f"{FIXED}    ca_file: nonsense.pem\n    proxy: nonsense\n    connections: 0\n", folder)
    assert all(word in text for word in ("p.ca", "p.proxy", "p.connections"))


@pytest.mark.parametrize(
    "lines", ["proxy: http://127.0.0.1:1", "client_cert_file: cert.pem\n    client_key_file: key.pem"]
)
def test_urls_of_messages_have_neither_proxy_nor_certificate(folder: Path, lines: str) -> None:
    assert "needs `url`" in problems(f"{HEAD}    {lines}\n", folder)
    read(f"{HEAD}    {lines}\n    allow_private: true\n", folder)
    read(f"{FIXED}    {lines}\n", folder)


def test_pusher_takes_them_too(folder: Path) -> None:
    fields = 'type: pusher, app_id: "1", key: k, secret: s, ca_file: ca.pem'
    text = f"queues: [{{name: a}}]\nproviders:\n  p: {{{fields}}}\n"
    found = read(text, folder).providers["p"]
    assert isinstance(found, PusherOptions)
    assert found.ca is not None


def test_a_certificate_that_is_shown_to_any_url_is_warned_of(folder: Path) -> None:
    lines = "    client_cert_file: cert.pem\n    client_key_file: key.pem\n"
    (warning,) = read(f"{HEAD}{lines}    allow_private: true\n", folder).providers["p"].warnings()
    assert warning == "`client_cert` is shown to any URL that a message brings: set `url`"
    assert list(read(FIXED + lines, folder).providers["p"].warnings()) == []
