"""The statistics and the journal that a real worker leaves behind, as commands and the console read them."""

from __future__ import annotations

import time

from relay.store import journal
from relay.store.journal import JournalQuery
from relay.store.keys import LaneKeys
from relay.store.statistics import read_recent
from testing.receiver import Answer
from testing.site import Site

REPLY = {"reply_to": "receipts:1"}


async def test_a_worker_leaves_statistics_and_a_journal_of_all_that_it_did(site: Site) -> None:
    site.receiver.answer = lambda request: Answer(400, b"no shop") if b"bad" in request.body else Answer(202)
    site.configure(
        {"hook": site.webhook(dedup_window="1m"), "quiet": site.webhook(journal=False)},
        [{"name": "notifications", "provider": "hook", "providers": "*"}],
    )
    hour_ago = time.time() - 3600
    await site.push(
        {"id": "bad", "payload": {"body": "bad"}, "created_at": hour_ago, "ordering_key": "o", **REPLY},
        {"id": "good", "payload": {"body": "a"}, **REPLY},
        {"id": "good", "payload": {"body": "a"}, **REPLY},
        {"id": "late", "payload": {"body": "b"}, "expires_at": 1},
        {"id": "quiet", "payload": {"body": "c"}, "provider": "quiet"},
    )
    await site.drain()
    counts = await read_recent(site.redis, "relay", ["hook", "quiet"], now=time.time(), minutes=10)
    hook = counts["hook"]
    assert hook.statuses == {"202": 1, "400": 1}
    ends = {name: hook.outcomes[name] for name in ("delivered", "failed", "duplicate", "expired")}
    assert ends == {"delivered": 1, "failed": 1, "duplicate": 1, "expired": 1}
    assert sum(hook.reasons.values()) == 1
    assert (hook.delivery.count, hook.request.count) == (1, 2)
    assert counts["quiet"].statuses == {"202": 1}
    assert not await site.redis.exists(LaneKeys.of("relay", "quiet").part("journal"))

    receipts = {(each["id"], each["outcome"]): each for each in await site.receipts()}
    assert receipts["good", "delivered"]["status"] == 202
    assert receipts["bad", "rejected"]["status"] == 400
    assert "status" not in receipts["good", "duplicate"]
    assert all("provider_id" not in receipt for receipt in receipts.values())

    (bad,) = await journal.search(site.redis, "relay", "hook", JournalQuery(id="bad"))
    assert (bad.outcome, bad.status, bad.attempt, bad.ordering_key) == ("rejected", 400, 1, "o")
    assert "no shop" in bad.reason
    assert bad.waited >= 3600
    assert bad.worker
    entries = await journal.latest(site.redis, "relay", "hook")
    ended = sorted((entry.id, entry.outcome) for entry in entries)
    assert ended == [("bad", "rejected"), ("good", "delivered"), ("good", "duplicate"), ("late", "expired")]
