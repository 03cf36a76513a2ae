"""Which names in Redis are relay's own: no message, queue or provider option may name one of them."""

from __future__ import annotations


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
