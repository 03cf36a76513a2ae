"""The groups of all lanes in Prometheus's terms: their number, and the largest ones of each lane."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from relay.store.groups import GroupStatus
from relay.store.overview import LaneStatus
from relay.store.states import GroupState
from relay.text import printable

MOST_GROUPS = 20
"""Groups of each lane that have metrics, because each of them is a time series in Prometheus."""

HELD_STATES = tuple(state for state in GroupState if state != GroupState.RUNNING)

_OF_GROUP = ("provider", "group")


def group_metrics(lanes: Sequence[LaneStatus]) -> Iterable[Metric]:
    """The metrics of groups."""
    total = GaugeMetricFamily(
        "relay_lane_groups", "Groups that have messages; an estimate above 1,000.", labels=["provider"]
    )
    states = GaugeMetricFamily(
        "relay_lane_groups_held",
        "Groups that may not send, by state; above 1,000 groups, those of a sample.",
        labels=["provider", "state"],
    )
    waiting = GaugeMetricFamily(
        "relay_group_waiting", "Messages that wait, of the largest groups.", labels=_OF_GROUP
    )
    in_flight = GaugeMetricFamily(
        "relay_group_in_flight", "Messages in flight, of the largest groups.", labels=_OF_GROUP
    )
    oldest = GaugeMetricFamily(
        "relay_group_oldest_seconds",
        "The age of the oldest message that waits, of the largest groups.",
        labels=_OF_GROUP,
        unit="seconds",
    )
    held = GaugeMetricFamily(
        "relay_group_held",
        "1 for the state of a group that may not send, of the largest groups.",
        labels=(*_OF_GROUP, "state"),
    )
    for lane in lanes:
        total.add_metric([lane.provider], lane.groups.total)
        for state in HELD_STATES:
            states.add_metric([lane.provider, state], len(lane.groups.in_state(state)))
        for name, group in _largest(lane):
            labels = [lane.provider, name]
            waiting.add_metric(labels, group.waiting)
            in_flight.add_metric(labels, group.in_flight)
            oldest.add_metric(labels, group.oldest or 0.0)
            if group.state != GroupState.RUNNING:
                held.add_metric([*labels, group.state], 1.0)
    yield from (total, states, waiting, in_flight, oldest, held)


def _largest(lane: LaneStatus) -> Iterator[tuple[str, GroupStatus]]:
    """The largest groups with their labels. Two names that are printed alike would be the same series, which
    Prometheus refuses."""
    labels = set[str]()
    for group in lane.groups.found[:MOST_GROUPS]:
        label = printable(group.group)
        if label not in labels:
            labels.add(label)
            yield label, group
