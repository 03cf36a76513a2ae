"""The addresses in a configuration file, for probes that run every few seconds.

Without pydantic and adapters, which are slow to import. Only the sections `admin` and `redis` are read, so
mistakes elsewhere in the file do not matter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from relay.errors import ConfigError
from relay.settings._reader.nodes import Problems, to_data
from relay.settings._reader.parser import parse
from relay.settings.redis_url import check_url
from relay.settings.secret_text import read_secret
from relay.settings.snapshot import SecretFiles

DEFAULT_LISTEN = "127.0.0.1:9464"


ANY_ADDRESS = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Addresses that mean all interfaces, each with one of this host."""


class Endpoints(msgspec.Struct, frozen=True):
    """The addresses of a running relay. Defaults are those of the file."""

    listen: str = DEFAULT_LISTEN
    """Address of the admin port; empty: off."""
    token: str = ""
    redis_url: str = "redis://127.0.0.1:6379/0"
    prefix: str = "relay"

    @property
    def admin(self) -> tuple[str, int] | None:
        """Host and port that reach the admin port from this host; None if it is off."""
        host, colon, port = self.listen.rpartition(":")
        if not colon or not port.isdecimal():
            return None
        host = host.strip("[]")
        return ANY_ADDRESS.get(host, host), int(port)


def read_endpoints(path: Path, env: Mapping[str, str] = os.environ) -> Endpoints:
    """Return the addresses in a file. Raises ConfigError if they cannot be read."""
    problems = Problems(str(path))
    try:
        root = parse(path.read_text("utf-8"), env, problems)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: the file is not UTF-8; save it as UTF-8"]) from None
    if root is None:
        raise ConfigError(problems.lines())
    document = to_data(root)
    admin, redis = _section(document, "admin"), _section(document, "redis")
    default = Endpoints()
    try:
        url = _secret(redis, "url", path) or default.redis_url
        check_url(url)
        token = _secret(admin, "token", path)
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    listen = admin.get("listen", default.listen)
    return Endpoints(
        str(listen) if listen else "",
        token,
        url,
        str(redis.get("prefix") or default.prefix),
    )


def _section(document: object, name: str) -> Mapping[str, object]:
    section = document.get(name) if isinstance(document, dict) else None
    return section if isinstance(section, dict) else {}


def _secret(section: Mapping[str, object], name: str, path: Path) -> str:
    """Return the value of `name`, or the content of the file that `name_file` names."""
    value, file = section.get(name), section.get(f"{name}_file")
    if value:
        return str(value)
    return read_secret(path.parent / str(file), SecretFiles()) if file else ""
