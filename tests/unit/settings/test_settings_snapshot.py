"""Snapshots restore a configuration whose files have changed; digests distinguish configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.settings.digest import digest
from relay.settings.load import load, load_with_snapshot, restore
from tests.unit.settings.conftest import WebhookOptions

ADAPTERS = {"webhook": WebhookOptions}
TEXT = """
queues: [{name: a}]
providers:
  p: {type: webhook, secret_file: secret, rate: "${RATE:-10/s}"}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("whsec_hunter2\n")
    path = tmp_path / "relay.yaml"
    path.write_text(TEXT)
    return path


def test_a_snapshot_needs_none_of_the_files(file: Path) -> None:
    settings, snapshot = load_with_snapshot(file, ADAPTERS, {})
    (file.parent / "secret").unlink()
    file.write_text("broken: [")
    assert restore(snapshot, ADAPTERS, {}) == settings
    assert restore(snapshot, ADAPTERS, {}).path == file
    assert "hunter2" not in repr(snapshot)
    with pytest.raises(ConfigError):
        load(file, ADAPTERS, {})


def test_a_digest_covers_the_treatment_of_messages(file: Path) -> None:
    first = digest(load(file, ADAPTERS, {}))
    assert first == digest(load(file, ADAPTERS, {}))
    for addition in (
        "processes: 3",
        "admin: {listen: ''}",
        "log: {level: debug}",
        "redis: {url: 'redis://h'}",
    ):
        file.write_text(f"{TEXT}{addition}\n")
        assert digest(load(file, ADAPTERS, {})) == first
    file.write_text(TEXT.replace("{name: a}", "{name: a, format: envelope}"))
    assert digest(load(file, ADAPTERS, {})) == first
    others = {first, digest(load(file, ADAPTERS, {"RATE": "11/s"}))}
    file.write_text(TEXT.replace("{name: a}", "{name: b}"))
    others.add(digest(load(file, ADAPTERS, {})))
    (file.parent / "secret").write_text("whsec_hunter3\n")
    others.add(digest(load(file, ADAPTERS, {})))
    assert len(others) == 4
