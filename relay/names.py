"""The names in Redis that belong to relay: no message, queue or provider option may use one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


def is_reserved(prefix: str, name: str) -> bool:
    """Return whether a key or a channel belongs to relay, given the `redis.prefix` of the configuration.

    Every key and channel of relay starts with `PREFIX:`, so the rule needs no list: `is_reserved("relay",
    "relay:{pusher}:outbox")` and `is_reserved("relay", "relay:wake")` are true.
    """
    return name == prefix or name.startswith(f"{prefix}:")


def key_beside(prefix: str, key: str, part: str = "") -> str:
    """Return a key of relay in the slot of an application's key. A name with a hash tag keeps it."""
    tagged = key if "{" in key else f"{{{key}}}"
    return f"{prefix}:{tagged}:{part}"


def hashed_part(key: str) -> str:
    """Return the part of a key that decides its slot in a cluster: the first hash tag, otherwise the whole
    key."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed and tag else key


def matches(patterns: Iterable[str], name: str) -> bool:
    """Return whether a name matches a glob pattern (`*`, `?`, `[abc]`, `[!abc]`). Case matters."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class OwnNames:
    """The names that messages of one configuration may not write to: relay's own, and the queues."""

    prefix: str = "relay"
    queues: frozenset[str] = frozenset()
    receipts: tuple[str, ...] = ()
    """Patterns of receipt lists. `*` is not included, because it matches every key."""

    def refusal(self, name: str) -> str:
        """Return why a message may not use this key or channel. Empty if it may."""
        if is_reserved(self.prefix, name):
            return f"keys and channels that start with {self.prefix + ':'!r} are relay's own"
        # The queues `hits` and `{hits}` would have the same keys of relay.
        if not self.queues.isdisjoint((name, f"{{{name}}}", name.removeprefix("{").removesuffix("}"))):
            return f"{name[:60]!r} is a queue"
        return ""

    def is_receipt_list(self, name: str) -> bool:
        """Return whether receipts may go to this key, which must therefore stay a list."""
        return matches(self.receipts, name)
