"""Small builders: a message, options or a lane with only the fields that a test needs."""

from __future__ import annotations

from typing import Any

from relay.message import PRIORITIES, Message, uuid7
from relay.redis_client.client import Client
from relay.settings.options import ProviderOptions
from relay.settings.values import parse_rate
from relay.store.lane import Lane


def a_message(text: str = "", *, priority: str = "normal", **fields: Any) -> Message:
    """A message whose id is `text`, chosen by the application; without a text it has a generated id."""
    payload = fields.pop("payload_json", b'{"text":"%s"}' % text.encode())
    return Message(
        id=text or uuid7(),
        queue="notifications",
        payload_json=payload,
        priority=PRIORITIES.index(priority),
        named=bool(text),
        **fields,
    )


def plain_message(text: str, *, priority: str = "normal", **fields: Any) -> Message:
    """A message with a generated id: it has no header unless a field needs one."""
    return Message(
        id=uuid7(),
        queue="notifications",
        payload_json=b'{"text":"%s"}' % text.encode(),
        priority=PRIORITIES.index(priority),
        **fields,
    )


def options(rate: str | None = None, **fields: Any) -> ProviderOptions:
    """Provider options of type `test`."""
    return ProviderOptions(type="test", rate=(parse_rate(rate),) if rate else (), **fields)


def a_lane(redis: Client, *, worker: str = "w1", name: str = "test", **fields: Any) -> Lane:
    """A lane; the keywords are provider options."""
    return Lane(redis, "relay", name, options(**fields), worker)


def texts(claims: Any) -> list[str]:
    """Return the texts of the claimed messages."""
    return [claim.message.payload["text"] for claim in claims]
