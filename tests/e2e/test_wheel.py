"""The wheel installs one package, and works beside a package of others that is called `providers`."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from redis.asyncio import Redis

from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import relay, write_config
from tests.e2e.conftest import webhook

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this checkout is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_holds_one_package(site: Path) -> None:
    assert [path.name for path in site.iterdir() if not path.name.endswith(".dist-info")] == ["relay"]


async def test_a_wheel_delivers_beside_another_package_called_providers(
    site: Path, tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "providers.py").write_text("raise ImportError('this module belongs to another package')")
    env = {"PYTHONPATH": f"{others}:{site}"}
    listed = (await relay("providers", "--json", **env)).json
    assert {"apns", "apprise", "fcm", "http", "pusher", "redis", "webhook", "webpush"} <= set(listed)

    # Apprise has a process of its own, which imports its adapter by name.
    chat = {"type": "apprise", "url": f"{receiver.url.replace('http', 'json')}/chat"}
    queues = [{"name": "notifications"}]
    path = write_config(tmp_path, redis_server.url, {"hook": webhook(receiver), "chat": chat}, queues)
    for provider in ("hook", "chat"):
        await redis.rpush("notifications", json.dumps({"provider": provider, "payload": {"body": "hi"}}))
    done = await relay("run", "--until-empty", "-c", str(path), **env)
    assert done.code == 0, done.err
    assert len(receiver.requests) == 2
