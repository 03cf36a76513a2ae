"""`relay init`: a file that passes `relay check`, for every type of provider."""

from __future__ import annotations

import itertools
import stat
from pathlib import Path

import pytest
import yaml

from relay.provider import AdapterOptions, discover
from relay.settings.example import read_example, types_in
from relay.settings.load import load
from testing.commands import failure, output, run_command

TYPES = types_in(read_example())
HAS_A_KEY_FILE = {"fcm": "firebase.json", "apns": "AuthKey_ABC123DEFG.p8", "webpush": "vapid.pem"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELAY_CONFIG", raising=False)
    return tmp_path


def test_the_example_has_every_adapter_that_relay_brings() -> None:
    built_in = [name for name in discover() if "relay-push" in discover().package(name)]
    assert sorted(TYPES) == sorted(built_in)


@pytest.mark.parametrize("kind", TYPES)
async def test_a_new_file_passes_the_check(kind: str, folder: Path) -> None:
    done = await run_command("init", "--provider", kind)
    assert (done.exit_code, done.stdout) == (0, "")
    checked = await output("check")
    assert "relay.yaml: ok (1 queue, 1 provider)" in checked
    assert ("change-me" in checked) is (kind in {"pusher", "apprise", "fcm", "apns"})
    expected = {"relay.yaml", *([HAS_A_KEY_FILE[kind]] if kind in HAS_A_KEY_FILE else [])}
    assert {path.name for path in folder.iterdir()} == expected
    # They hold secrets, or will.
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(("one", "other"), list(itertools.pairwise([*TYPES, TYPES[0]])))
async def test_a_file_with_two_providers_keeps_their_options_apart(
    one: str, other: str, folder: Path
) -> None:
    await output("init", "--provider", one, "--provider", other)
    found = load(Path("relay.yaml"), AdapterOptions(discover()))
    assert list(found.providers) == [one, other]
    assert [str(rate) for options in found.providers.values() for rate in options.rate] == ["100/s"] * 2
    # Every key that the user does not have to decide has its default, because it is a comment.
    for name, options in found.providers.items():
        fields = type(options).model_fields
        for key in options.model_fields_set - {"type", "rate"}:
            assert fields[key].is_required() or fields[key].default is None, (name, key)


async def test_the_whole_example_is_a_valid_file_too(folder: Path) -> None:
    await output("init", "--all")
    assert Path("relay.yaml").read_text() == read_example()
    assert "ok (2 queues" in await output("check")


async def test_a_file_that_exists_is_replaced_by_force_only(folder: Path) -> None:
    Path("relay.yaml").write_text("mine")
    Path("vapid.pem").write_text("my key")
    assert "exists already; --force replaces it" in await failure("init")
    assert Path("relay.yaml").read_text() == "mine"
    # A key file always stays: its faults are reported as errors of the file that names it.
    assert "providers.webpush.private_key: " in await failure("init", "--provider", "webpush", "--force")
    assert (Path("relay.yaml").read_text(), Path("vapid.pem").read_text()) == ("mine", "my key")
    await output("init", "--force")
    assert list(yaml.safe_load(Path("relay.yaml").read_text())["providers"]) == ["webhook"]


async def test_a_file_for_an_embedded_redis_needs_no_server(folder: Path) -> None:
    await output("init", "--redis", "embedded://./data")
    assert "ok embedded: Redis" in await output("check")


async def test_the_file_is_the_one_that_the_other_commands_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_CONFIG", "by-variable.yaml")
    await output("init")
    await output("-c", "before.yaml", "init")
    await output("init", "-c", "after.yaml")
    assert {path.name for path in folder.iterdir()} == {"by-variable.yaml", "before.yaml", "after.yaml"}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--provider", "nope"], "no adapter 'nope'; known: apns"),
        (["--redis", "ftp://x"], "relay.yaml:"),
        (["--all", "--provider", "fcm"], "--all writes the whole example"),
        (["-c", "missing/relay.yaml"], "missing/relay.yaml: No such file or directory"),
        (["-c", ".", "--force"], "directory"),
    ],
)
async def test_a_wrong_request_writes_nothing(words: list[str], error: str, folder: Path) -> None:
    assert error in await failure("init", *words)
    assert not list(folder.iterdir())
