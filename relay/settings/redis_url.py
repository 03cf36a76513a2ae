"""The URL of Redis: its schemes, their required parts, and its options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from relay.settings.formatting import describe, listing, near_miss
from relay.settings.secret_text import read_secret
from relay.settings.snapshot import SecretFiles

if TYPE_CHECKING:
    from relay.settings.values import Secret

FORMS = {
    "redis": "redis://host:6379/0",
    "rediss": "rediss://host:6379/0",
    "unix": "unix:///path/of/redis.sock",
    "redis+sentinel": "redis+sentinel://h1:26379,h2:26379/NAME/0",
    "rediss+sentinel": "rediss+sentinel://h1:26379,h2:26379/NAME/0",
    "redis+cluster": "redis+cluster://h1:6379,h2:6379",
    "rediss+cluster": "rediss+cluster://h1:6379,h2:6379",
    "embedded": "embedded://DIR or embedded://DIR?port=6380",
}
"""Each scheme with an example."""

REDIS_URL_PATTERN = "^(redis|rediss|unix|rediss?\\+sentinel|rediss?\\+cluster|embedded)://"

EMBEDDED = "embedded://"

CERTIFICATES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Options that name files."""

TLS = (*CERTIFICATES, "ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers")

_VERIFIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
"""Options with a single value each: the server is always verified."""

_DATABASE = re.compile(r"[0-9]{0,9}")
_OPTION = re.compile(r"[a-z_]{1,30}")
_END_OF_HOSTS = re.compile(r"[/?#]")


def check_redis_url(value: Secret) -> Secret:
    """Return the same URL. Raises ValueError like `check_url`."""
    check_url(value.get_secret_value())
    return value


def read_url_file(path: Path) -> str:
    """Return the URL in a file. Raises ValueError if the file contains none."""
    url = read_secret(path, SecretFiles())
    check_url(url)
    return url


def check_url(url: str) -> None:
    """Raise ValueError for an invalid URL. The error contains only its scheme and options, no secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"is not a URL; write one such as {FORMS['redis']}")
    if scheme not in FORMS:
        hint = near_miss(scheme, FORMS)
        hint = f"{hint} " if hint else ""
        raise ValueError(f"has the unknown scheme {describe(scheme)}; {hint}allowed are {listing(FORMS)}")
    if any(char.isspace() for char in url) or not _is_complete(scheme, rest, url):
        raise ValueError(f"is not complete or not well-formed; write it as {FORMS[scheme]}")
    if scheme == "embedded":
        EmbeddedPlace.of(url)
    else:
        url_options(url)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL that may have several hosts.

    `urlsplit` of newer Pythons refuses an IPv6 address behind another host (CVE-2025-0938).
    """
    scheme, _, rest = url.partition("://")
    hosts = _END_OF_HOSTS.split(rest, maxsplit=1)[0]
    return urlsplit(f"{scheme}://{rest[len(hosts) :]}")._replace(netloc=hosts)


@dataclass(frozen=True, slots=True)
class EmbeddedPlace:
    """The folder of an embedded server, and the TCP port that it opens besides its socket; 0: none."""

    directory: Path
    port: int = 0

    @classmethod
    def of(cls, url: str) -> EmbeddedPlace:
        """Read `embedded://DIR?port=N`. Raises ValueError for another option or a port out of range."""
        directory, question, query = url.removeprefix(EMBEDDED).partition("?")
        name, _, port = query.partition("=")
        if question and name != "port":
            raise ValueError("unknown option; allowed is port, as in embedded://./data?port=6380")
        if question and not _is_port(port):
            raise ValueError("port: write a number from 1 to 65535")
        return cls(Path(directory).expanduser(), int(port or 0))


def in_folder(url: str, folder: Path) -> str:
    """Return the same URL, with a relative directory of an embedded server below this folder."""
    if not url.startswith(EMBEDDED):
        return url
    directory, question, query = url.removeprefix(EMBEDDED).partition("?")
    return f"{EMBEDDED}{folder / Path(directory).expanduser()}{question}{query}"


def url_options(url: str) -> Mapping[str, Any]:
    """Return the options in the query of a URL, typed for the Redis client.

    Raises ValueError for an unknown option, and for one that would leave the server unverified.
    """
    parts = split_url(url)
    scheme, _, kind = parts.scheme.partition("+")
    allowed = _allowed(scheme, kind)
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in TLS and scheme != "rediss":
            raise ValueError(f"{name} needs TLS: write rediss instead of redis")
        if name not in allowed:
            # The end of a password that contains `?` arrives here, too: show only plausible names.
            shown = f" {name}" if _OPTION.fullmatch(name) and "@" not in parts.query else ""
            raise ValueError(f"unknown option{shown}; allowed are {', '.join(allowed)}")
        options[name] = _typed(name, value)
    return options


def _allowed(scheme: str, kind: str) -> tuple[str, ...]:
    allowed: tuple[str, ...] = ("client_name", *(TLS if scheme == "rediss" else ()))
    if kind == "sentinel":
        allowed += ("sentinel_username", "sentinel_password")
    return allowed if kind else (*allowed, "db")


def _typed(name: str, value: str) -> str | int | bool:
    if name in _VERIFIED and value != _VERIFIED[name]:
        raise ValueError(
            f"{name}={value[:20]}: the server's certificate is always verified; leave the option out, "
            "and name a private authority by ssl_ca_certs=/path/ca.pem"
        )
    if name == "ssl_ciphers":
        _check_ciphers(value)
    if name == "db":
        if not value.isdecimal():
            raise ValueError("db: write the number of a database")
        return int(value)
    return value == "true" if name == "ssl_check_hostname" else value


def _check_ciphers(value: str) -> None:
    """Raise ValueError for unknown ciphers, and for those that verify or encrypt nothing."""
    import ssl  # 1.5 MiB that a file without this option does not need

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.set_ciphers(value)
    except (ssl.SSLError, ValueError):
        raise ValueError("ssl_ciphers: unknown to OpenSSL; see `openssl ciphers`") from None
    for cipher in context.get_ciphers():
        if cipher.get("auth") == "auth-null" or not cipher["strength_bits"]:
            raise ValueError(
                f"ssl_ciphers: {cipher['name']} leaves the server unverified or the connection in clear "
                "text; write for example ECDHE+AESGCM"
            )


def _is_complete(scheme: str, rest: str, url: str) -> bool:
    if scheme == "embedded":
        return bool(rest.partition("?")[0])
    parts = split_url(url)
    if scheme == "unix":
        return bool(parts.path.strip("/"))
    first, _, second = parts.path.lstrip("/").partition("/")
    nodes = parts.netloc.rpartition("@")[2].split(",")
    database = second if scheme.endswith("+sentinel") else first
    complete = bool(first) if scheme.endswith("+sentinel") else len(nodes) == 1 or "+" in scheme
    return complete and all(map(_is_node, nodes)) and _DATABASE.fullmatch(unquote(database)) is not None


def _is_node(node: str) -> bool:
    try:
        urlsplit(f"//{node}")
    except ValueError:  # brackets that do not match
        return False
    host, colon, port = node.rpartition(":") if ":" in node.rpartition("]")[2] else (node, "", "")
    return bool(host) and (not colon or _is_port(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536
