"""An adapter in a package of its own is found, used and listed like the built-in ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from testing.relay_process import relay
from testing.site import Site

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
    """URL to shout at."""
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


async def test_an_installed_adapter_is_listed_validated_and_used(site: Site) -> None:
    path: dict[str, Any] = {"PYTHONPATH": str(install(site.folder))}
    listed = (await relay("providers", "--json", **path)).json
    assert listed["shout"]["package"] == "relay-shout 4.2"
    assert listed["shout"]["summary"] == "Posts in capital letters."
    assert set(listed["shout"]["options"]) == {"url", "token"}
    assert "shout" in (await relay("schema", "config", **path)).out

    (site.folder / "token").write_text("s3cret\n")
    options = {"type": "shout", "url": site.receiver.url, "token_file": "token"}
    str(site.configure({"loud": options}))
    await site.push('{"payload": {"text": "hello"}}', '{"payload": {"txt": "hello"}}')
    assert (await site.relay("run", "--until-empty", **path)).code == 0
    (request,) = site.receiver.requests
    assert (request.body, request.headers["authorization"]) == (b"HELLO", "Bearer s3cret")
    letters = await site.json("dead", "list", "loud", **path)
    assert [letter["reason"] for letter in letters] == ["text: missing"]

    missing = await site.relay("check")
    assert missing.code == 2
    assert "shout" in missing.err
