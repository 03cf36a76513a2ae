"""The import path by which adapters of others know `relay.provider.redis`."""

from relay.provider.redis import (
    Answer,
    RedisProvider,
    Refused,
    Replied,
    Transaction,
    Unanswered,
)

__all__ = ["Answer", "RedisProvider", "Refused", "Replied", "Transaction", "Unanswered"]
