"""One message to one provider, as the relay stores it and adapters get it."""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One message to one provider. Times are Unix seconds; 0 stands for "none"."""

    id: str
    queue: str
    payload_json: bytes
    priority: int = 1
    created_at: float = 0.0
    expires_at: float = 0.0
    deliver_at: float = 0.0
    collapse_key: str = ""
    ordering_key: str = ""
    reply_to: str = ""
    traceparent: str = ""
    named: bool = False
    """Whether the application chose the id. Only such ids can have duplicates."""
    attempts: int = 0
    """The number of earlier attempts. It is not stored with the message."""
    targets: int = 0
    """The number of targets of a fan-out. 0: the message is no fan-out."""
    target_field: str = ""
    """The field of the payload that each of them fills."""
    part_of: str = ""
    """The ticket of the fan-out that this message is one target of."""
    group: str = ""
    """The tenant or destination that it belongs to, if its lane serves groups in turns."""
    scope: str = ""
    """The queue within which the id and the keys count; empty: they count among all of the provider's."""

    @property
    def payload(self) -> dict[str, Any]:
        """The payload, decoded once: all who look share it, and nobody changes it."""
        # Before Python 3.12 `cached_property` takes a lock, which costs as much as to decode.
        decoded: dict[str, Any] | None = self.__dict__.get("payload")
        if decoded is None:
            decoded = self.__dict__["payload"] = msgspec.json.decode(self.payload_json)
        return decoded

    def remaining(self, now: float) -> float | None:
        """Seconds of life left at `now` (Unix seconds), never below 0; None: it never expires."""
        return max(0.0, self.expires_at - now) if self.expires_at else None

    def raw(self, name: str) -> bytes | None:
        """The JSON text of one field of the payload, exactly as the application wrote it."""
        value = _RAW_FIELDS.decode(self.payload_json).get(name)
        return None if value is None else bytes(value)


_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
