"""Which names in Redis are relay's own: no message, queue or provider option may name one of them."""

from __future__ import annotations


def is_reserved(prefix: str, name: str) -> bool:
    """Whether a key or a channel belongs to relay, given the `redis.prefix` of the configuration.

    Every key and channel of relay's starts with `PREFIX:`, so the rule needs no list:
    `is_reserved("relay", "relay:{pusher}:outbox")` and `is_reserved("relay", "relay:wake")` are true.
    """
    return name == prefix or name.startswith(f"{prefix}:")
