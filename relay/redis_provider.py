"""The import path of `relay.provider.redis` for third-party adapters."""

from relay.provider.redis import (
    Answer,
    RedisProvider,
    Refused,
    Replied,
    Transaction,
    Unanswered,
)

__all__ = ["Answer", "RedisProvider", "Refused", "Replied", "Transaction", "Unanswered"]
