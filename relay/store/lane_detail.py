"""The parts of the backlog of one lane, and the holds that are over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import Client, is_refusal
from relay.store import holds
from relay.store.groups import LEVELS
from relay.store.holds import Hold
from relay.store.keys import LaneKeys
from relay.store.reading import read_all


class LaneDetail(msgspec.Struct, frozen=True):
    """Counts of messages. In `priorities`, messages that ended early may still be counted for a while."""

    priorities: Mapping[str, int] = {}
    """Messages that could be sent now, by priority, the highest first. Fan-outs count once."""
    blocked: int = 0
    """Messages that wait for an earlier one with their ordering key."""
    since: float | None = None
    """The begin of the present hold, in Unix seconds; None if the lane does not hold."""
    holds: Sequence[Hold] = ()
    """The holds that ended within the last hours, the newest first."""


NO_DETAIL = LaneDetail()


async def read_detail(client: Client, prefix: str, provider: str, *, since: float) -> LaneDetail:
    """Read the detail of a lane, with the holds that ended after `since`. Raises StoreError.

    A key that cannot be read counts as empty.
    """
    keys = LaneKeys.of(prefix, provider)
    commands = [
        command
        for level in LEVELS
        for command in (
            ("LLEN", keys.part(f"ready:{level}")),
            ("LLEN", keys.part(f"fan-outs:{level}")),
            ("ZCARD", keys.part(f"waiting:{level}")),
        )
    ]
    replies, _ = await read_all(
        client,
        *commands,
        ("ZCARD", keys.part("blocked")),
        ("HMGET", keys.part("control"), "state", "since", "paused", "paused_at"),
    )
    *counts, blocked, control = replies
    state, began, paused, paused_at = control or (None, None, None, None)
    now_since = (began if state else None) if not paused else paused_at
    try:
        ended = await holds.read(client, prefix, provider, since=since)
    except StoreError as error:
        if not is_refusal(error):
            raise
        ended = []
    return LaneDetail(
        {
            level: sum(number or 0 for number in counts[3 * place : 3 * place + 3])
            for place, level in enumerate(LEVELS)
        },
        blocked or 0,
        int(now_since) / 1000 if now_since and now_since.isdigit() and int(now_since) else None,
        ended,
    )
