"""An adapter in a package of its own is found, used and listed like the built-in ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import relay, write_config


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "relay-shout"
version = "4.2"

[project.entry-points."relay.providers"]
shout = "relay_shout:Shout"
"""

MODULE = '''
from relay.outcome import Delivered, Rejected
from relay.provider import HttpProvider, Request
from relay.settings.provider import ProviderOptions
from relay.settings.types import Secret


class ShoutOptions(ProviderOptions):
    """The options of `type: shout`."""

    url: str
    """Where to shout."""
    token: Secret
    """The bearer token."""


class Shout(HttpProvider[ShoutOptions]):
    """Posts in capital letters."""

    Options = ShoutOptions

    def check(self, message):
        return None if "text" in message.payload else Rejected("text: missing")

    def request(self, batch):
        headers = {"authorization": f"Bearer {self.options.token.get_secret_value()}"}
        return Request(self.options.url, batch[0].payload["text"].upper().encode(), headers)

    def outcomes(self, batch, response):
        return [Delivered()]
'''


def install(folder: Path) -> Path:
    """Build and install the package, away from ours; the folder to put on the path."""
    source, target = folder / "source", folder / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "relay_shout.py").write_text(MODULE)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)),
        ],
        check=True,
    )
    return target


async def test_an_installed_adapter_is_listed_validated_and_used(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    path = {"PYTHONPATH": str(install(tmp_path))}
    listed = (await relay("providers", "--json", **path)).json
    assert listed["shout"]["package"] == "relay-shout 4.2"
    assert listed["shout"]["summary"] == "Posts in capital letters."
    assert set(listed["shout"]["options"]) == {"url", "token"}
    assert "shout" in (await relay("schema", "config", **path)).out

    (tmp_path / "token").write_text("s3cret\n")
    options = {"type": "shout", "url": receiver.url, "token_file": "token"}
    config = str(write_config(tmp_path, redis_server.url, {"loud": options}))
    await redis.rpush("notifications", '{"payload": {"text": "hello"}}', '{"payload": {"txt": "hello"}}')
    assert (await relay("run", "-c", config, "--until-empty", **path)).code == 0
    (request,) = receiver.requests
    assert (request.body, request.headers["authorization"]) == (b"HELLO", "Bearer s3cret")
    letters = (await relay("dead", "list", "loud", "--json", "-c", config, **path)).json
    assert [letter["reason"] for letter in letters] == ["text: missing"]

    missing = await relay("check", "-c", config)
    assert missing.code == 2
    assert "shout" in missing.err
