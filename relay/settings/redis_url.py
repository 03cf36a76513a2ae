"""The URL of Redis: which schemes there are, and what each one must have."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from relay.settings.types import Secret
from relay.settings.words import describe, listing, near_miss

FORMS = {
    "redis": "redis://host:6379/0",
    "rediss": "rediss://host:6379/0",
    "unix": "unix:///path/of/redis.sock",
    "redis+sentinel": "redis+sentinel://h1:26379,h2:26379/NAME/0",
    "rediss+sentinel": "rediss+sentinel://h1:26379,h2:26379/NAME/0",
    "redis+cluster": "redis+cluster://h1:6379,h2:6379",
    "rediss+cluster": "rediss+cluster://h1:6379,h2:6379",
    "embedded": "embedded://DIR",
}
"""Each scheme with an example."""

_DATABASE = re.compile(r"[0-9]{0,9}")

REDIS_URL_PATTERN = "^(redis|rediss|unix|rediss?\\+sentinel|rediss?\\+cluster|embedded)://"


def check_redis_url(value: Secret) -> Secret:
    """The same URL. Raises ValueError, without a word of what the URL holds beyond its scheme."""
    url = value.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"is not a URL; write one such as {FORMS['redis']}")
    if scheme not in FORMS:
        hint = near_miss(scheme, FORMS)
        hint = f"{hint} " if hint else ""
        raise ValueError(f"has the unknown scheme {describe(scheme)}; {hint}allowed are {listing(FORMS)}")
    if any(char.isspace() for char in url) or not _is_complete(scheme, rest, url):
        raise ValueError(f"is not complete or not well-formed; write it as {FORMS[scheme]}")
    return value


def _is_complete(scheme: str, rest: str, url: str) -> bool:
    if scheme == "embedded":
        return bool(rest)
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that do not match
        return False
    if scheme == "unix":
        return bool(parts.path.strip("/"))
    first, _, second = parts.path.lstrip("/").partition("/")
    nodes = parts.netloc.rpartition("@")[2].split(",")
    database = second if scheme.endswith("+sentinel") else first
    complete = bool(first) if scheme.endswith("+sentinel") else len(nodes) == 1 or "+" in scheme
    return complete and all(map(_is_node, nodes)) and _DATABASE.fullmatch(unquote(database)) is not None


def _is_node(node: str) -> bool:
    host, colon, port = node.rpartition(":") if ":" in node.rpartition("]")[2] else (node, "", "")
    return bool(host) and (not colon or (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536))
