"""Dead letters over all providers on every installed Redis: found, counted, retried and deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from relay.errors import StoreError, UsageError
from relay.operations.dead import DeadScope, count, list_letters, pages
from relay.operations.dead_newest import LetterPage, newest_letters
from relay.operations.dead_reasons import TREND_STEPS, by_reason, survey
from relay.operations.dead_selection import DeadSelection, LetterName, parse_cursor
from relay.operations.dead_work import DeadOrder, DeadResult, purge, retry
from relay.redis_client.client import Client
from relay.store import audit, dead, registry
from relay.store.dead_filter import DeadFilter
from relay.store.items import Item, Malformed
from relay.store.lane import Lane
from relay.store.record import pack
from relay.store.registry import Names
from testing.builders import a_lane, a_message

SCOPE = DeadScope("relay", ("one", "two"), ("notifications",), "relay.yaml")
ORDER = DeadOrder(who="me@here", because="fixed")
ALL = DeadSelection()


async def file(
    redis: Client, provider: str, *names: str, reason: str = "413: too large", at: int = 0, **fields: Any
) -> None:
    """File dead letters as the scripts do."""
    status = fields.pop("status", 413)
    for number, name in enumerate(names):
        letter: Any = {
            "ticket": 4 * number + 1,
            "record": pack(a_message(name, **fields)),
            "reason": reason,
            "status": status,
            "body": "answer",
            "attempts": 1,
        }
        await redis.xadd(dead.lane_stream("relay", provider), letter, id=f"{at + number}-0" if at else "*")


async def ids(redis: Client, name: str | None = None, **where: Any) -> list[str]:
    selection = DeadSelection(name, DeadFilter(**where))
    found = [letter.id async for letter in list_letters(redis, SCOPE, selection)]
    assert await count(redis, SCOPE, selection) == len(found)
    return found


async def test_letters_of_all_providers_and_queues_are_listed(redis: Client) -> None:
    await file(redis, "one", "a")
    await file(redis, "two", "b")
    await file(redis, "old", "c")
    await registry.register(redis, "relay", Names(("old",), ()))
    queue: Any = {"raw": "{", "reason": "not JSON"}
    added: Any = await redis.xadd(dead.queue_stream("relay", "notifications"), queue)
    entry = added.decode()
    assert await ids(redis) == ["a", "b", "c", entry]
    assert await ids(redis, "two") == ["b"]
    assert await ids(redis, "notifications") == [entry, "a", "b"]
    assert await ids(redis, "old") == ["c"]
    with pytest.raises(UsageError, match="no provider or queue 'other'"):
        await ids(redis, "other")


async def test_an_error_names_the_key_that_cannot_be_read(redis: Client) -> None:
    await redis.set(dead.lane_stream("relay", "two"), "overwritten by another program")
    for reading in (by_reason, count):
        with pytest.raises(StoreError, match=r"relay:\{two\}:dead: .*WRONGTYPE"):
            await reading(redis, SCOPE, ALL)


async def test_filters_choose_by_time_status_group_queue_text_reason_and_id(redis: Client) -> None:
    await file(redis, "one", "a", "b", at=1_000_000)
    await file(redis, "one", "c", at=2_000_000, status=503, group="acme", reason="503: down")
    await file(redis, "one", "d", at=3_000_000, status=0, payload_json=b'{"to":"Gr\\u00fc\\u00dfe"}')
    assert await ids(redis, since=2000.0) == ["c", "d"]
    assert await ids(redis, until=1000.0) == ["a"]
    assert await ids(redis, since=1000.001, until=2500.0) == ["b", "c"]
    assert await ids(redis, statuses=(413, 413)) == ["a", "b"]
    assert await ids(redis, statuses=(500, 599)) == ["c"]
    assert await ids(redis, group="acme") == ["c"]
    assert await ids(redis, group="acm") == []
    assert await ids(redis, queue="notifications") == ["a", "b", "c", "d"]
    assert await ids(redis, queue="other") == []
    assert await ids(redis, text="grüße") == ["d"]
    assert await ids(redis, text="ANSWER", reason="DOWN") == ["c"]
    assert await ids(redis, id="b") == await ids(redis, id="1000001-0") == ["b"]


async def test_letters_are_grouped_by_reason_and_status(redis: Client) -> None:
    for number in range(3):
        await file(redis, "one", f"a{number}", reason=f"413: {number} bytes", at=1_000_000 + number)
    await file(redis, "two", "b", reason="413: 17 bytes", at=2_000_000)
    await file(redis, "two", "c", reason="503: down", status=503)
    large, small = await by_reason(redis, SCOPE, ALL)
    assert (large.reason, large.status, large.count) == ("413: # bytes", 413, 4)
    assert (large.first_at, large.last_at) == (1000.0, 2000.0)
    assert large.example is not None
    assert (large.example.id, dict(large.providers)) == ("b", {"one": 3, "two": 1})
    assert (small.reason, small.count) == ("503: down", 1)


async def test_a_survey_groups_letters_by_provider_and_has_the_newest_ones(redis: Client) -> None:
    now = 1_800_000_000.0
    await file(redis, "one", "a", "b", at=round(now - 7200) * 1000)
    await file(redis, "two", "c", at=round(now - 60) * 1000)
    queue: Any = {"raw": "{", "reason": "413: too large", "status": 413}
    await redis.xadd(dead.queue_stream("relay", "notifications"), queue, id=f"{round(now) * 1000}-0")
    found = await survey(redis, SCOPE, ALL, 2)
    assert {group.place: group.count for group in found.groups} == {"one": 2, "notifications": 1, "two": 1}
    assert [letter.raw or letter.id for letter in found.page.letters] == [b"{", "c"]
    trend = found.groups[0].trend(now)
    assert (len(trend), trend[-5], sum(trend)) == (TREND_STEPS, 2, 2)


async def test_pages_of_letters_stay_the_same_while_others_arrive(redis: Client) -> None:
    """In both orders, over several streams, with letters that died at the same time and a filter."""
    await file(redis, "one", *(f"a{number}" for number in range(4)), at=1_000_000)
    await file(redis, "two", *(f"b{number}" for number in range(4)), at=1_000_000)
    queue: Any = {"raw": "{", "reason": "413: not JSON", "status": 413}
    await redis.xadd(dead.queue_stream("relay", "notifications"), queue, id="1000002-0")
    await file(redis, "one", "other", reason="503", status=503, at=1_000_010)
    where = DeadFilter(statuses=(413, 413))
    found: list[str] = []
    after: LetterName | None = None
    shown: list[LetterPage] = []
    while True:
        page = await newest_letters(redis, SCOPE, DeadSelection(where=where, after=after), 2)
        if not page.letters:
            break
        shown.append(page)
        found += [letter.id for letter in page.letters]
        after = parse_cursor(LetterName.of(page.letters[-1]).cursor)
        await file(redis, "two", f"new-{len(found)}")
    assert found == ["b3", "a3", "b2", "a2", "1000002-0", "b1", "a1", "b0", "a0"]
    # Each page names the one before it, and counts those that have arrived since.
    assert shown[0].previous is None
    assert [page.newer for page in shown] == [0, 3, 6, 9, 12]
    before = await newest_letters(
        redis, SCOPE, DeadSelection(where=where, after=parse_cursor(shown[4].previous or "")), 2
    )
    assert [letter.id for letter in before.letters] == found[6:8]

    oldest: list[str] = []
    after = None
    while letters := [
        each async for each in list_letters(redis, SCOPE, DeadSelection(None, where, limit=2, after=after))
    ]:
        oldest += [letter.id for letter in letters]
        after = parse_cursor(LetterName.of(letters[-1]).cursor)
    assert oldest[:5] == ["a0", "a1", "a2", "a3", "b0"]
    assert len(oldest) == len(set(oldest)) == 9 + 5


@pytest.mark.parametrize("text", ["", "7", "7-0", "7-0/lane/", "7-0/stream/one", "x-0/lane/one"])
def test_a_cursor_that_names_no_letter_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`cursor`"):
        parse_cursor(text)


async def test_a_list_cannot_go_on_after_a_letter_of_another_list(redis: Client) -> None:
    await file(redis, "one", "a")
    elsewhere = DeadSelection("one", after=LetterName("1-0", "two"))
    with pytest.raises(UsageError, match="no letter of this list"):
        _ = [each async for each in list_letters(redis, SCOPE, elsewhere)]


async def test_single_letters_are_chosen_by_their_names(redis: Client) -> None:
    await file(redis, "one", "a", "b", "c", at=1_000_000)
    await file(redis, "two", "d", at=1_000_000)
    chosen = DeadSelection(
        letters=(
            LetterName("1000000-0", "one"),
            LetterName("1000002-0", "one"),
            LetterName("1000000-0", "two"),
        )
    )
    assert await count(redis, SCOPE, chosen) == 3
    assert [letter.id async for letter in list_letters(redis, SCOPE, chosen)] == ["a", "c", "d"]
    assert (await retry(redis, SCOPE, chosen, ORDER)).done == 3
    assert await ids(redis) == ["b"]
    again = await purge(redis, SCOPE, chosen, ORDER)
    assert (again.matched, again.done) == (0, 0)
    assert {entry.why for entry in await audit.read(redis, "relay")} == {"chosen 3: fixed"}


async def test_retried_letters_may_go_behind_fresh_traffic(redis: Client) -> None:
    lane = a_lane(redis, name="one")
    await file(redis, "one", "old")
    result = await retry(redis, SCOPE, ALL, DeadOrder(who="me", priority="low"))
    await lane.enqueue([a_message("fresh")])
    claims = (await lane.claim(2)).claims
    assert [claim.message.id for claim in claims] == ["fresh", "old"]
    assert (result.matched, result.done, dict(result.by_provider)) == (1, 1, {"one": 1})
    (entry,) = await audit.read(redis, "relay")
    assert (entry.action, entry.provider, entry.count, entry.who) == ("retry", "one", 1, "me")


async def test_two_retries_at_the_same_time_send_each_message_once(redis: Client) -> None:
    await file(redis, "one", *(f"m{number}" for number in range(150)))
    results = await asyncio.gather(*(retry(redis, SCOPE, ALL, ORDER) for _ in range(3)))
    assert sum(result.done for result in results) == 150
    claims = (await a_lane(redis, name="one").claim(500)).claims
    assert len({claim.message.id for claim in claims}) == len(claims) == 150


async def test_a_purge_during_a_retry_leaves_each_letter_to_one_of_them(redis: Client) -> None:
    await file(redis, "one", *(f"m{number}" for number in range(300)))
    retried, purged = await asyncio.gather(retry(redis, SCOPE, ALL, ORDER), purge(redis, SCOPE, ALL, ORDER))
    assert retried.done + purged.done == 300
    assert await a_lane(redis, name="one").size() == retried.done
    assert retried.left["gone"] == retried.matched - retried.done


async def test_a_letter_whose_id_is_pending_stays(redis: Client) -> None:
    await file(redis, "one", "a", "b")
    await a_lane(redis, name="one").enqueue([a_message("a")])
    result = await retry(redis, SCOPE, ALL, ORDER)
    assert (result.matched, result.done, dict(result.left)) == (2, 1, {"duplicate": 1})
    assert await ids(redis) == ["a"]


async def test_a_stop_ends_a_retry_after_its_page_with_a_summary(redis: Client) -> None:
    await file(redis, "one", *(f"m{number}" for number in range(250)))
    stop = asyncio.Event()
    seen: list[int] = []

    def stop_at_once(result: DeadResult) -> None:
        seen.append(result.done)
        stop.set()

    order = DeadOrder(who="me", on_progress=stop_at_once, stop=stop)
    result = await retry(redis, SCOPE, ALL, order)
    assert seen == [result.done]
    assert result.interrupted
    assert 0 < result.done < 250
    assert await count(redis, SCOPE, ALL) == 250 - result.done


async def test_a_rate_paces_a_retry(redis: Client) -> None:
    await file(redis, "one", *(f"m{number}" for number in range(20)))
    begun = time.monotonic()
    result = await retry(redis, SCOPE, ALL, DeadOrder(who="me", rate=50))
    assert result.done == 20
    assert time.monotonic() - begun > 0.25  # five at once, and the others at their time


async def test_a_stop_does_not_wait_for_a_slow_rate(redis: Client) -> None:
    await file(redis, "one", "a", "b")
    stop = asyncio.Event()
    order = DeadOrder(who="me", rate=1 / 3600, stop=stop, on_progress=lambda _: stop.set())
    result = await retry(redis, SCOPE, ALL, order)
    assert (result.matched, result.done, result.interrupted) == (1, 1, True)


async def test_a_cancelled_retry_returns_its_result(redis: Client) -> None:
    await file(redis, "one", "a", "b")
    sent = asyncio.Event()
    order = DeadOrder(who="me", rate=1 / 3600, on_progress=lambda _: sent.set())
    running = asyncio.create_task(retry(redis, SCOPE, ALL, order))
    await sent.wait()
    running.cancel()
    assert ((await running).done, (await running).interrupted) == (1, True)
    assert await ids(redis) == ["b"]


async def test_the_limit_counts_letters_that_were_sent_again(redis: Client) -> None:
    await file(redis, "one", "a", "b", "c", "d")
    await a_lane(redis, name="one").enqueue([a_message("a")])
    result = await retry(redis, SCOPE, DeadSelection("one", limit=2), ORDER)
    assert (result.done, await ids(redis)) == (2, ["a", "d"])
    assert (await purge(redis, SCOPE, DeadSelection("one", limit=1), ORDER)).done == 1
    assert await ids(redis) == ["d"]


async def test_letters_are_retried_and_purged_although_memory_is_full(redis: Client) -> None:
    await file(redis, "one", "a", "b")
    for stream in (dead.lane_stream("relay", "one"), dead.queue_stream("relay", "notifications")):
        raw: Any = {"raw": f"m-{len(stream)}", "reason": "unknown provider"}
        await redis.xadd(stream, raw)
    await redis.config_set("maxmemory", 1)
    try:
        result = await retry(
            redis, SCOPE, DeadSelection(None, DeadFilter(reason="unknown")), ORDER, intake_of(redis)
        )
        assert (result.done, dict(result.left)) == (2, {})
        assert (await retry(redis, SCOPE, DeadSelection("one", limit=1), ORDER)).done == 1
        assert (await purge(redis, SCOPE, ALL, ORDER)).done == 1
    finally:
        await redis.config_set("maxmemory", 0)
    assert [entry.action for entry in await audit.read(redis, "relay")] == ["purge", "retry", "retry"]


class Breaks:
    """Raises an error of Redis at the second page."""

    def __init__(self) -> None:
        self.pages = 0

    def __call__(self, _: DeadResult) -> None:
        self.pages += 1
        if self.pages == 2:
            raise StoreError("Connection refused")


@pytest.mark.parametrize("work", [retry, purge])
async def test_an_error_of_redis_reports_the_progress_of_the_work(redis: Client, work: Any) -> None:
    await file(redis, "one", *(f"m{number}" for number in range(250)))
    order = DeadOrder(who="me", on_progress=Breaks())
    with pytest.raises(StoreError, match=f"Connection refused; {2 * dead.PAGE} dead letters were"):
        await work(redis, SCOPE, ALL, order)
    assert await count(redis, SCOPE, ALL) == 250 - 2 * dead.PAGE
    (entry,) = await audit.read(redis, "relay")
    assert entry.count == 2 * dead.PAGE


class FakeIntake:
    """Accepts each element as a message of one lane."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    def route(self, queue: str, element: bytes) -> tuple[str, Item] | None:
        return None if element == b"{" else ("one", a_message(element.decode()))

    def lane(self, provider: str) -> Lane:
        return a_lane(self._redis, name=provider, worker="operator", max_backlog=1)


def intake_of(redis: Client) -> Callable[[], FakeIntake]:
    return lambda: FakeIntake(redis)


@pytest.mark.parametrize("stream", ["lane", "other lane", "queue"])
async def test_malformed_elements_are_sent_once_by_several_retries(redis: Client, stream: str) -> None:
    """A full backlog drops none of them."""
    key = {
        "lane": dead.lane_stream("relay", "one"),
        "other lane": dead.lane_stream("relay", "two"),
        "queue": dead.queue_stream("relay", "notifications"),
    }[stream]
    for number in range(20):
        letter: Any = {"raw": f"m{number}", "reason": "unknown provider"}
        await redis.xadd(key, letter)
    await redis.xadd(key, {"raw": "{", "reason": "not JSON"})
    results = await asyncio.gather(*(retry(redis, SCOPE, ALL, ORDER, intake_of(redis)) for _ in range(3)))
    assert sum(result.done for result in results) == 20
    assert all(result.left["still_malformed"] == 1 for result in results)
    claims = (await a_lane(redis, name="one").claim(100)).claims
    assert sorted(claim.message.id for claim in claims) == sorted(f"m{number}" for number in range(20))
    fields: Any = await redis.hkeys(a_lane(redis, name="one").keys.part("control"))
    assert not [field for field in fields if field.startswith(b"batch:")]


async def test_malformed_elements_stay_without_an_intake(redis: Client) -> None:
    await a_lane(redis, name="one").enqueue([Malformed(b"{", "not JSON", "notifications")])
    result = await retry(redis, SCOPE, ALL, ORDER)
    assert (result.matched, result.done, dict(result.left)) == (1, 0, {"malformed": 1})


async def test_a_letter_that_was_trimmed_meanwhile_is_counted_as_gone(redis: Client) -> None:
    await file(redis, "one", "a", "b")
    async for page in pages(redis, SCOPE, ALL):
        if page:
            await dead.trim(redis, page[0].stream, before=0, most=1)
            revived = await dead.revive(redis, "relay", "one", [letter.entry for letter in page])
            assert (revived.done, revived.gone) == (1, 1)
