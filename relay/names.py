"""Which names in Redis are relay's own: no message, queue or provider option may name one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


def is_reserved(prefix: str, name: str) -> bool:
    """Whether a key or a channel belongs to relay, given the `redis.prefix` of the configuration.

    Every key and channel of relay's starts with `PREFIX:`, so the rule needs no list:
    `is_reserved("relay", "relay:{pusher}:outbox")` and `is_reserved("relay", "relay:wake")` are true.
    """
    return name == prefix or name.startswith(f"{prefix}:")


def key_beside(prefix: str, key: str, part: str = "") -> str:
    """A key of relay's in the slot of an application's key. A name with a hash tag of its own keeps it."""
    tagged = key if "{" in key else f"{{{key}}}"
    return f"{prefix}:{tagged}:{part}"


def hashed_part(key: str) -> str:
    """The part of a key that decides its slot in a cluster: the first hash tag, otherwise all of it."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed and tag else key


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a name matches one of these glob patterns (`*`, `?`, `[abc]`, `[!abc]`), case included."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class OwnNames:
    """The names that messages of one configuration may not write to: relay's own, and the queues."""

    prefix: str = "relay"
    queues: frozenset[str] = frozenset()
    receipts: tuple[str, ...] = ()
    """Patterns of the lists that receipts go to. `*` is not among them: it would be every key."""

    def refusal(self, name: str) -> str:
        """Why a message may not name this key or channel. Empty: it may."""
        if is_reserved(self.prefix, name):
            return f"keys and channels that start with {self.prefix + ':'!r} are relay's own"
        # The queues `hits` and `{hits}` have the same keys of relay's own.
        if not self.queues.isdisjoint((name, f"{{{name}}}", name.removeprefix("{").removesuffix("}"))):
            return f"{name[:60]!r} is a queue"
        return ""

    def is_receipt_list(self, name: str) -> bool:
        """Whether receipts may go to this key: it must stay a list."""
        return matches(self.receipts, name)
