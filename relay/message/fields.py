"""The fields of a message as applications write it: types, limits and descriptions.

`relay schema message` and the tables in docs/ are made from this struct.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from relay.settings.durations import DURATION_PATTERN

MAX_KEY = 512
"""Characters in `collapse_key`, `ordering_key` and `reply_to`."""

MAX_ID = 128
"""Characters in `id`."""

MAX_GROUP = 128
"""Characters in `group`."""

MAX_TIME = 1e11
"""Unix seconds. Larger numbers are milliseconds by mistake."""

PRIORITIES = ("high", "normal", "low")
"""By number, as stored: 0 goes out first."""

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
Group = Annotated[str, Meta(min_length=1, max_length=MAX_GROUP)]
Key = Annotated[str, Meta(max_length=MAX_KEY)]

# The parser checks these limits, because its errors say more.
Moment = (
    Annotated[
        float,
        Meta(title="Unix seconds", extra_json_schema={"minimum": 0, "exclusiveMaximum": MAX_TIME}),
    ]
    | Annotated[str, Meta(title="RFC 3339 time", extra_json_schema={"format": "date-time"})]
    | None
)
Span = (
    Annotated[float, Meta(extra_json_schema={"minimum": 0})]
    | Annotated[
        str, Meta(extra_json_schema={"pattern": DURATION_PATTERN}, examples=["10m", "1h30m", "500ms"])
    ]
    | None
)


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """One element of a queue. With `format: bare`, the element is the payload."""

    payload: Annotated[
        msgspec.Raw,
        Meta(
            description="Content of the push, with the provider's own field names.",
            extra_json_schema={"type": "object"},
        ),
    ]
    provider: Annotated[
        str | None,
        Meta(description="Name of a provider that the queue admits. Default: the provider of the queue."),
    ] = None
    id: Annotated[
        Id | None,
        Meta(
            description="Idempotency key: at most one message with this id is pending per provider. "
            "Sent upstream if the provider has a field for it. Default: a UUIDv7."
        ),
    ] = None
    priority: Annotated[
        Literal["high", "normal", "low"] | None,
        Meta(description="Messages with a higher priority go out first. Default: the priority of the queue."),
    ] = None
    created_at: Annotated[
        Moment, Meta(description="Time of creation. Default: the time at which a worker fetches the message.")
    ] = None
    expires_at: Annotated[Moment, Meta(description="Never send the message after this time.")] = None
    deliver_at: Annotated[
        Moment,
        Meta(
            description="Do not send the message before this time, which may be `max_delay` of the queue "
            "ahead at most."
        ),
    ] = None
    ttl: Annotated[
        Span,
        Meta(
            description="Time to live: the message expires this long after `created_at`. With `expires_at`, "
            "the earlier time applies. Default: the TTL of the provider."
        ),
    ] = None
    delay: Annotated[
        Span,
        Meta(
            description="Do not send the message until this long after `created_at`. With `deliver_at`, "
            "the later time applies."
        ),
    ] = None
    collapse_key: Annotated[
        Key | None,
        Meta(description="While an older message with this key waits, a newer one replaces it in place."),
    ] = None
    ordering_key: Annotated[
        Key | None,
        Meta(
            description="Messages with the same key are sent one at a time, in order, over the whole fleet."
        ),
    ] = None
    group: Annotated[
        Group | None,
        Meta(
            description="Tenant that the message belongs to, for fair turns and limits. Default: the "
            "destination of the message."
        ),
    ] = None
    reply_to: Annotated[
        Key | None,
        Meta(
            description="Redis list that receives one JSON receipt when the message ends. Its name must "
            "match `reply_to` of the queue, which is `receipts:*` by default."
        ),
    ] = None
    traceparent: Annotated[str | None, Meta(description="W3C trace context, passed on to webhooks.")] = None


FIELDS = Envelope.__struct_fields__
