"""The wheel installs one package, and works beside a package of others that is called `providers`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from testing.relay_process import relay
from testing.site import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this checkout is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_holds_one_package(unpacked: Path) -> None:
    assert [path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")] == ["relay"]


async def test_a_wheel_delivers_beside_another_package_called_providers(unpacked: Path, site: Site) -> None:
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
