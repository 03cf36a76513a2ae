"""One lane: its state, its deliveries and their speed, its failures and their reasons, its groups, and the
actions of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relay.admin.console import charts
from relay.admin.console.call import Call
from relay.admin.console.charts import lines, stacked
from relay.admin.console.lane_history import SPANS, LaneHistory, read_history
from relay.admin.console.lane_view import lane_view
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import NotFound, Screen, Values
from relay.admin.console.timeline import ORDERS, Event, bands, ends, events
from relay.admin.console.tones import STATE_TONES
from relay.store import audit, holds
from relay.store.holds import Hold
from relay.store.lane_status import LaneStatus
from relay.store.overview import Overview, read_provider
from relay.store.states import State
from relay.store.statistics import Counts
from relay.text import enumerated, quote

MOST_GROUPS = 50
"""Rows of a table of groups."""

MOST_REASONS = 10
MOST_EVENTS = 20

MOST_ORDERS = 200
BEFORE = 30 * 86_400
"""Seconds before the time on the page in which a rate or a pause may have begun that ends within it."""

PROBED = (State.OPEN, State.TRIAL, State.UNAUTHORISED, State.UNREGISTERED, State.FAULTY)
"""The states in which a lane can try one message."""

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


async def _values(call: Call, sample: Sample) -> Values:
    provider, services = call.part("provider"), call.services
    client = await services.client()

    async def read_lane() -> Overview:
        return await read_provider(client, call.settings, provider, call.services.own())

    overview = await services.cache.get(("lane", provider), 0.9, read_lane)
    if not overview.lanes:
        known = enumerated(call.settings.providers)
        raise NotFound(f"There is no provider {quote(provider)}. Known: {known}.")
    (lane,) = overview.lanes
    span = SPANS.get(call.query("range"), SPANS["1h"])

    async def read_span() -> LaneHistory:
        return await read_history(client, services.prefix, provider, span, overview.at)

    start = overview.at - span.seconds

    async def read_timeline() -> list[Event]:
        ended = await holds.read(client, services.prefix, provider, since=start)
        actions = await audit.read(
            client, services.prefix, limit=MOST_EVENTS, since=start, provider=provider, also=("",)
        )
        orders = await audit.read(
            client,
            services.prefix,
            limit=MOST_ORDERS,
            since=start - BEFORE,
            provider=provider,
            actions=ORDERS,
        )
        over = ends(orders, start, overview.at)
        return events(ended, _present(lane, overview.detail.since), actions, over)

    timeline = await services.cache.get(("timeline", provider, span.name), min(span.keep, 5.0), read_timeline)
    history = await services.cache.get(("history", provider, span.name), span.keep, read_span)
    failing = lane.groups.failing()
    return {
        "view": lane_view(lane, sample),
        "lane": lane,
        "history": history,
        "spans": SPANS.values(),
        "sent_chart": _sent_chart(history),
        "delivery_chart": _time_chart(history),
        "percentiles": _percentiles(history.total),
        "statuses": list(history.total.statuses.items())[:MOST_REASONS],
        "reasons": list(history.total.reasons.items())[:MOST_REASONS],
        "held": [(state, seconds) for state, seconds in history.total.held_seconds.items() if seconds >= 1],
        "events": timeline,
        "timeline_chart": charts.timeline(
            bands(timeline, start, overview.at), f"Holds and actions in {span.words}: {len(timeline)}"
        ),
        "detail": overview.detail,
        "waiting_by": _told_apart(overview.detail.priorities),
        "peaks": _peaks(history),
        "can_probe": lane.state in PROBED,
        "groups": lane.groups.found[:MOST_GROUPS],
        "failing": failing[:MOST_GROUPS],
        "failing_total": len(failing),
        "tones": STATE_TONES,
    }


def _present(lane: LaneStatus, since: float | None) -> Hold | None:
    """Return the current hold."""
    if since is None or lane.state == State.RUNNING:
        return None
    return Hold(lane.state, since, 0.0, lane.why)


def _told_apart(priorities: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the priorities in which messages wait, unless all have the usual one."""
    found = [(level, number) for level, number in priorities.items() if number]
    return [] if [level for level, _ in found] == ["normal"] else found


def _peaks(history: LaneHistory) -> Mapping[str, float]:
    """Return the tops of the charts."""
    attempts = [
        sum(counts.outcomes.get(name, 0) for name in ("delivered", "throttled")) + counts.failures
        for counts in history.steps
    ]
    slowest = [counts.delivery.percentile(SHARES["p99"]) or 0.0 for counts in history.steps]
    return {"sent": max(attempts, default=0), "delivery": max(slowest, default=0.0)}


def _outcomes(steps: Sequence[Counts], name: str) -> list[float]:
    return [float(counts.outcomes.get(name, 0)) for counts in steps]


def _sent_chart(history: LaneHistory) -> object:
    total = history.total
    label = (
        f"Attempts in {history.span.words}: {total.outcomes.get('delivered', 0):,} sent, "
        f"{total.failures:,} failed, {total.outcomes.get('throttled', 0):,} throttled"
    )
    return stacked(
        (
            ("sent", _outcomes(history.steps, "delivered")),
            ("throttled", _outcomes(history.steps, "throttled")),
            ("failed", [float(counts.failures) for counts in history.steps]),
        ),
        label,
    )


def _time_chart(history: LaneHistory) -> object:
    return lines(
        [
            (name, [counts.delivery.percentile(share) for counts in history.steps])
            for name, share in SHARES.items()
        ],
        f"Time from push to delivery in {history.span.words}: p50, p95 and p99",
    )


def _percentiles(total: Counts) -> list[tuple[str, list[float | None]]]:
    """Return a row for each kind of duration."""
    return [
        (label, [histogram.percentile(share) for share in SHARES.values()])
        for label, histogram in (("Push to delivery", total.delivery), ("Request", total.request))
    ]


SCREEN = Screen("lane", "/lanes/{provider}", "lane.html", _values)
