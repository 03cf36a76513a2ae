"""Search for messages, and show their fate attempt by attempt."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.message_search import KINDS, MOST, search_messages
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.store.journal import newest_first

MOST_LANES = 50
"""Lanes that are searched without a choice of one: those in which something ended last."""

OUTCOMES = ("delivered", "retry", "throttled", "rejected", "dead", "unregistered", "expired", "cancelled")


async def _values(call: Call, sample: Sample) -> Values:
    kind = call.query("kind", "text")
    text, provider, outcome = call.query("q").strip(), call.query("provider"), call.query("outcome")
    names = [lane.provider for lane in sample.overview.lanes]
    client, prefix = await call.services.client(), call.services.prefix
    journals = await newest_first(client, prefix, [name for name in names if provider in ("", name)])
    found = await search_messages(
        client,
        prefix,
        journals[:MOST_LANES],
        kind if kind in KINDS else "text",
        text,
        outcome if outcome in OUTCOMES else "",
    )
    return {
        "kinds": KINDS,
        "kind": kind,
        "q": text,
        "provider": provider,
        "outcome": outcome,
        "outcomes": OUTCOMES,
        "providers": names,
        "found": found,
        "most": MOST,
        "searched": min(len(journals), MOST_LANES),
        "lanes": len(journals),
    }


SCREEN = Screen("messages", "/messages", "messages.html", _values, "Messages", every=0)
