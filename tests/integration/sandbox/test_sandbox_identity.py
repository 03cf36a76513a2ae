"""Keys and certificates: kept in a folder, created if missing, validated when read."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from relay.errors import UsageError
from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.identity import ACCOUNT, CA, CA_KEY, SIGNING_KEY, VAPID, identify
from relay.sandbox.options import SandboxOptions

TOPIC = SandboxOptions.apns_topic


def test_a_folder_keeps_the_files_that_a_configuration_names(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    first, second = identify(folder, TOPIC), identify(folder, TOPIC)
    assert first == second
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    settings = ApnsEmulator(SandboxOptions(), first).settings("https://127.0.0.1:1")
    assert (settings["key_file"], settings["ca_file"]) == (str(folder / SIGNING_KEY), str(folder / CA))
    names = x509.load_pem_x509_certificate(first.client).subject.rfc4514_string()
    assert names == f"UID={TOPIC}"


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--dir: .*file"):
        identify(tmp_path / "file", TOPIC)
    identify(tmp_path / "a", TOPIC)
    (tmp_path / "a" / SIGNING_KEY).write_text("nonsense")
    with pytest.raises(UsageError, match="cannot be read"):
        identify(tmp_path / "a", TOPIC)
    identify(tmp_path / "b", TOPIC)
    (tmp_path / "b" / CA).write_bytes(identify(None, TOPIC).ca)
    with pytest.raises(UsageError, match=r"is not the key of ca\.pem; remove both"):
        identify(tmp_path / "b", TOPIC)


@pytest.mark.parametrize(
    ("name", "content"), [(ACCOUNT, "{}"), (ACCOUNT, "nonsense"), (VAPID, "nonsense"), (CA_KEY, "nonsense")]
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: str) -> None:
    identify(tmp_path, TOPIC)
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match="cannot be read") as caught:
        identify(tmp_path, TOPIC)
    assert "\n" not in str(caught.value)


def test_an_account_needs_an_rsa_key(tmp_path: Path) -> None:
    identity = identify(tmp_path, TOPIC)
    document = json.loads(identity.account) | {"private_key": identity.signing_key.decode()}
    (tmp_path / ACCOUNT).write_text(json.dumps(document))
    with pytest.raises(UsageError, match="RSA"):
        identify(tmp_path, TOPIC)


def test_sandboxes_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: identify(tmp_path / "kept", TOPIC), range(4)))
    assert all(identity == found[0] for identity in found)


def test_options_are_texts_without_a_folder() -> None:
    identity = identify(None, TOPIC)
    assert identity.option("key", SIGNING_KEY) == {"key": identity.signing_key.decode()}
    assert CA_KEY not in identity.files()
