"""The configuration file as a whole. Durations are in seconds, sizes in bytes.

`Settings` validates each field on its own. `checks` validates fields against each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    Strict,
    WithJsonSchema,
)

from relay.extras import install, is_installed
from relay.names import OwnNames
from relay.settings.formatting import describe
from relay.settings.options import Options, ProviderOptions
from relay.settings.redis_url import REDIS_URL_PATTERN, check_redis_url, in_folder, read_url_file
from relay.settings.tokens import token_problem
from relay.settings.values import Count, Duration, Secret, Size
from relay.text import mask_url, without_userinfo

PROVIDER_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
PREFIX_PATTERN = r"^[^\s{}]+$"
HEADER_NAME_PATTERN = r"^[A-Za-z0-9-]{0,64}$"
BASE_PATH_PATTERN = r"^(/[A-Za-z0-9._~-]+)*$"
DEFAULT_PREFIX = "relay"
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"

_LISTEN = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.*-]+):([0-9]{1,5})$")


def _check_provider_name(name: str) -> str:
    if not re.fullmatch(PROVIDER_NAME_PATTERN[1:-1], name):
        raise ValueError(
            "is not a valid name of a provider; use 1 to 64 of A-Z a-z 0-9 _ . - and begin with a letter or "
            "digit"
        )
    return name


def _check_prefix(prefix: str) -> str:
    if not re.fullmatch(PREFIX_PATTERN[1:-1], prefix):
        raise ValueError(f"{describe(prefix)} must not be empty, and must not contain spaces or braces")
    return prefix


def _check_listen(value: object) -> object:
    if value in (None, "", False):
        return None
    found = _LISTEN.match(value) if isinstance(value, str) else None
    if not found or int(found[2]) > 65535:
        raise ValueError(
            f"{describe(value)} is not host:port; write 127.0.0.1:9464, [::1]:9464, or nothing for off"
        )
    return value


def _check_processes(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"expected a whole number of at least 1, or auto; got {describe(value)}")


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}},
            ]
        }
    ),
]
"""One name, or a list of names."""


def _check_networks(addresses: list[str]) -> list[str]:
    for address in addresses:
        try:
            ip_network(address)
        except ValueError:
            raise ValueError(
                f"{describe(address)} is not an address or a network; write 10.0.0.7 or 10.0.0.0/24"
            ) from None
    return addresses


def _check_header_name(name: str) -> str:
    if not re.fullmatch(HEADER_NAME_PATTERN[1:-1], name):
        raise ValueError(f"{describe(name)} is not the name of a header; write for example X-Forwarded-User")
    return name


def _check_base_path(path: str) -> str:
    if not re.fullmatch(BASE_PATH_PATTERN[1:-1], path):
        raise ValueError(f"{describe(path)} is not a path such as /relay, without a slash at its end")
    return path


def _check_token(token: Secret | None) -> Secret | None:
    if token is not None and (problem := token_problem(token.get_secret_value())):
        raise ValueError(problem)
    return token


def _check_otel(wanted: bool) -> bool:
    if wanted and not is_installed("opentelemetry.sdk"):
        raise ValueError(f"needs OpenTelemetry: {install('otel')}")
    return wanted


RedisUrl = Annotated[Secret, AfterValidator(check_redis_url)]


class RedisSettings(Options):
    """The Redis server that has the queues and relay's own keys."""

    url: RedisUrl = Field(
        default=Secret(DEFAULT_REDIS_URL),
        json_schema_extra={"default": DEFAULT_REDIS_URL, "pattern": REDIS_URL_PATTERN, "minLength": 1},
    )
    """URL of the server: `redis://`, `rediss://`, `unix://PATH`, `redis+sentinel://h1:p,h2:p/NAME/0`,
    `redis+cluster://h1:p,h2:p` or `embedded://DIR?port=6380`."""
    prefix: Annotated[
        str, AfterValidator(_check_prefix), Field(json_schema_extra={"pattern": PREFIX_PATTERN})
    ] = DEFAULT_PREFIX
    """Prefix of relay's own keys. Fleets with different prefixes are independent of each other."""

    _url_file: Path | None = PrivateAttr(default=None)

    @property
    def safe_url(self) -> str:
        """The URL with its passwords masked."""
        return mask_url(self.url.get_secret_value())

    def is_same_server(self, other: RedisSettings) -> bool:
        """Return True if only user and password differ, which a running worker rereads."""
        ours, theirs = (without_userinfo(one.url.get_secret_value()) for one in (self, other))
        return (ours, self.prefix) == (theirs, other.prefix)

    @property
    def url_file_path(self) -> Path | None:
        """The `url_file` that the URL was read from, or None."""
        return self._url_file

    def read_url(self) -> str:
        """The current URL in `url_file`. Raises ValueError if it holds none."""
        if self._url_file is None:
            return self.url.get_secret_value()
        return read_url_file(self._url_file)


class QueueSettings(Options):
    """A Redis list that applications push to."""

    name: Annotated[str, Field(min_length=1)]
    """Key of the list in Redis."""
    provider: str | None = None
    """Default provider, for messages without one."""
    providers: Names | None = None
    """Providers that messages may name besides `provider`; `*` allows all. Default: all if the queue has no
    `provider`, otherwise none."""
    reply_to: Names = ["receipts:*"]
    """Patterns (`*`, `?`, `[…]`) of the lists that messages may name in `reply_to`. `[]`: no receipts."""
    max_delay: Duration = 30 * 86400.0
    """Longest delay. A message whose `deliver_at` or `delay` is further ahead becomes a dead letter."""
    scope: Literal["provider", "queue"] = "provider"
    """Scope of ids, collapse keys and ordering keys: all messages of a provider, or only those of this
    queue."""
    format: Literal["envelope", "bare"] = "envelope"
    """`envelope`: elements have the fields of `relay schema message`. `bare`: the whole element is the
    payload."""
    priority: Literal["high", "normal", "low"] = "normal"
    """Default priority, for messages without one."""
    max_size: Annotated[Size, Field(ge=1)] = 1024 * 1024
    """Largest size of an element, without its `targets`. A larger element becomes a dead letter."""

    def admits(self, provider: str) -> bool:
        """Return True if messages of this queue may name the provider."""
        if self.providers is None:
            return self.provider in (None, provider)
        return provider == self.provider or "*" in self.providers or provider in self.providers


Token = Annotated[Secret | None, BeforeValidator(_empty_is_none), AfterValidator(_check_token)]
_TOKEN_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "format": "password", "writeOnly": True}, {"type": "null"}]
}


class AdminSettings(Options):
    """The admin port over HTTP: the console, `/healthz` and `/metrics`."""

    listen: Annotated[str | None, BeforeValidator(_check_listen)] = "127.0.0.1:9464"
    """Address of the admin port, `HOST:PORT`. Empty: off. Addresses other than loopback need a `token`."""
    token: Token = Field(default=None, json_schema_extra=_TOKEN_SCHEMA)
    """Token of operators: the password of the console, and `Authorization: Bearer …` of programs. Empty: no
    token is needed."""
    viewer_token: Token = Field(default=None, json_schema_extra=_TOKEN_SCHEMA)
    """Token of viewers, who may read everything and change nothing. Empty: there are no viewers."""
    environment: Annotated[str, Field(max_length=32)] = ""
    """Name on a coloured badge in the console, for example `production`."""
    trusted_proxies: Annotated[Names, AfterValidator(_check_networks)] = []
    """Addresses or networks of reverse proxies. Only their `X-Forwarded-*` headers and `user_header` are
    used."""
    user_header: Annotated[
        str, AfterValidator(_check_header_name), Field(json_schema_extra={"pattern": HEADER_NAME_PATTERN})
    ] = ""
    """Header in which a trusted proxy sends the user's name, for the audit log: `X-Forwarded-User`."""
    base_path: Annotated[
        str, AfterValidator(_check_base_path), Field(json_schema_extra={"pattern": BASE_PATH_PATTERN})
    ] = ""
    """Path of the console behind a reverse proxy, for example `/relay`."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Host (IPv6 without brackets) and port, or None if the admin port is off."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class LogSettings(Options):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    format: Literal["auto", "console", "json"] = "auto"
    """Format of log lines. `auto`: colours on a terminal, JSON otherwise."""


class TelemetrySettings(Options):
    """Traces of OpenTelemetry."""

    otlp: Annotated[bool, AfterValidator(_check_otel)] = False
    """Export a span for the wait of each message and for each attempt. The standard variables `OTEL_*` set
    endpoint, sampler and resource. Needs the extra `otel`."""


class AlertSettings(Options):
    """Alerts: messages to one of the providers when something needs an operator, and when it is over."""

    provider: Annotated[str | None, BeforeValidator(_empty_is_none)] = None
    """Provider that the alerts go to. Empty: no alerts."""
    after: Duration = 60.0
    """A condition must hold for this long before its alert fires."""
    dead: Annotated[int, Strict(), Field(ge=0)] = 100
    """Alert if more messages than this became dead letters within an hour. 0: never."""
    oldest: Duration = 900.0
    """Alert if the oldest message that could be sent waits for longer than this. 0: never."""


ProviderName = Annotated[str, AfterValidator(_check_provider_name)]


class Settings(Options):
    """The configuration of relay."""

    redis: RedisSettings = RedisSettings()
    """The Redis server that has the queues and relay's own keys."""
    queues: Annotated[list[QueueSettings], Field(min_length=1)]
    """The Redis lists that applications push to."""
    providers: Annotated[dict[ProviderName, SerializeAsAny[ProviderOptions]], Field(min_length=1)]
    """The providers that messages go to, under names of your choice. `type` selects the adapter."""
    admin: AdminSettings = AdminSettings()
    """The admin port over HTTP: the console, `/healthz` and `/metrics`."""
    alerts: AlertSettings = AlertSettings()
    """Alerts: messages to one of the providers when something needs an operator, and when it is over."""
    processes: Annotated[
        Count | Literal["auto"],
        BeforeValidator(_check_processes),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
    ] = "auto"
    """Worker processes on this host. `auto`: one per core."""
    shutdown_timeout: Duration = 25.0
    """Wait this long for requests in flight when relay stops. Messages that have no answer by then go to
    other workers."""
    log: LogSettings = LogSettings()
    """The log on standard error."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Traces of OpenTelemetry."""

    _path: Path | None = PrivateAttr(default=None)
    _secret_files: tuple[Path, ...] = PrivateAttr(default=())

    @property
    def own_names(self) -> OwnNames:
        """The names in Redis that messages must not write to."""
        receipts = {pattern for queue in self.queues for pattern in queue.reply_to if pattern != "*"}
        queues = frozenset(queue.name for queue in self.queues)
        return OwnNames(self.redis.prefix, queues, tuple(sorted(receipts)))

    @property
    def path(self) -> Path | None:
        """The file that these settings were read from, or None."""
        return self._path

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """The files with secrets: each `X_file`, and the configuration itself if it holds a secret."""
        return self._secret_files

    def read_from(
        self, path: Path, files: Mapping[tuple[str | int, ...], Path], *, holds_secrets: bool
    ) -> Settings:
        """A copy that remembers its `path` and the `files` of its secrets."""
        url = Secret(in_folder(self.redis.url.get_secret_value(), path.parent))
        settings = self.model_copy(update={"redis": self.redis.model_copy(update={"url": url})})
        settings._path = path
        settings._secret_files = (*([path] if holds_secrets else []), *dict.fromkeys(files.values()))
        settings.redis._url_file = files.get(("redis", "url"))
        return settings


def is_loopback(listen: str) -> bool:
    """Return True if only this host can reach `listen` (host:port)."""
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
