"""The files of a release: their content, and that the wheel works next to a package called `providers`."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from release import contents
from release.artifacts import Artifacts, build
from testing.relay_process import relay
from testing.site import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def unpacked(built: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this checkout is installed."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(folder)
    return folder


def test_a_release_has_exactly_its_files(built: Artifacts) -> None:
    assert list(contents.problems(built)) == []


def test_a_second_build_of_the_source_distribution_has_the_same_bytes(
    built: Artifacts, tmp_path: Path
) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path)
    (unpacked,) = tmp_path.iterdir()
    for path in unpacked.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(path.stat().st_mode & 0o700)
    again = build(tmp_path / "again", unpacked)
    assert again.checksums() == built.checksums()


def test_a_package_index_can_show_the_release(built: Artifacts) -> None:
    words = [sys.executable, "-m", "twine", "check", "--strict", str(built.wheel), str(built.sdist)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_wheel_holds_one_package(unpacked: Path) -> None:
    assert [path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")] == ["relay"]


async def test_a_wheel_delivers_next_to_another_package_called_providers(unpacked: Path, site: Site) -> None:
    others = site.folder / "others"
    others.mkdir()
    (others / "providers.py").write_text("raise ImportError('this module belongs to another package')")
    env: dict[str, Any] = {"PYTHONPATH": f"{others}:{unpacked}"}
    written = await relay("init", "--all", "-c", str(site.folder / "example.yaml"), **env)
    assert written.code == 0, written.err
    assert (site.folder / "example.yaml").read_text() == (ROOT / "config.example.yaml").read_text()
    listed = (await relay("providers", "--json", **env)).json
    assert {"apns", "apprise", "fcm", "http", "pusher", "redis", "webhook", "webpush"} <= set(listed)

    # Apprise has a process of its own, which imports its adapter by name.
    chat = {"type": "apprise", "url": f"{site.receiver.url.replace('http', 'json')}/chat"}
    site.configure({"hook": site.webhook(), "chat": chat}, [{"name": "notifications"}])
    for provider in ("hook", "chat"):
        await site.push({"provider": provider, "payload": {"body": "hi"}})
    done = await site.relay("run", "--until-empty", **env)
    assert done.code == 0, done.err
    assert len(site.receiver.requests) == 2
