"""The metrics of the processes behind a port."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from relay import __version__
from relay.admin.counts import Durations, LaneCounts, ProcessCounts
from relay.admin.health import Health, WorkerReport
from relay.admin.host import Host
from relay.admin.process_metrics import BUCKETS, ProcessMetrics
from relay.store.deployment import Deployment
from relay.store.histogram import BOUNDS, Histogram

numbers = st.integers(0, 1 << 40)
durations = st.builds(
    Durations, st.dictionaries(st.integers(0, len(BOUNDS)), numbers, max_size=3), st.integers(0, 1 << 20)
)
by_class = st.dictionaries(st.sampled_from(["2xx", "5xx", "none"]), durations)
lanes = st.builds(LaneCounts, st.dictionaries(st.text(max_size=3), numbers), by_class, by_class)
counts = st.builds(
    ProcessCounts,
    failures=st.dictionaries(st.text(max_size=3), numbers),
    reconnections=numbers,
    log_lines_dropped=numbers,
    lanes=st.dictionaries(st.sampled_from(["a", "b"]), lanes),
)


def exposed(*healths: Health, ended: ProcessCounts | None = None) -> str:
    reports = [WorkerReport(pid=health.pid, age=0.0, health=health) for health in healths]
    registry = CollectorRegistry()
    registry.register(ProcessMetrics(Host(Deployment("s", len(reports)), reports, ended or ProcessCounts())))
    return generate_latest(registry).decode()


def a_health(seconds: list[float], **results: int) -> Health:
    histogram = Histogram.of(seconds)
    found = Durations({i: n for i, n in enumerate(histogram.counts) if n}, histogram.total)
    lane = LaneCounts(results, {"2xx": found}, {"2xx": found})
    return Health(worker="w", pid=os.getpid(), settings="", failures={"lane a": 1}, lanes={"a": lane})


def test_the_bounds_are_bounds_of_the_statistics() -> None:
    assert set(BUCKETS) <= set(BOUNDS)


def test_a_duration_is_in_each_bucket_that_is_long_enough() -> None:
    text = exposed(a_health([0.004, 0.02, 0.021, 99_999.0, 1e9], delivered=5))
    for bound, number in {"0.005": 1, "0.01": 1, "0.02": 2, "0.05": 3, "10000.0": 3, "+Inf": 5}.items():
        labels = f'le="{bound}",provider="a",status_class="2xx"'
        assert f"relay_request_seconds_bucket{{{labels}}} {number}.0" in text
    assert 'relay_delivery_seconds_count{provider="a",status_class="2xx"} 5.0' in text


def test_workers_are_summed_and_those_that_ended_still_count() -> None:
    one, other = a_health([1.0], delivered=1, retry=2), a_health([2.0], delivered=4)
    text = exposed(one, other, ended=a_health([3.0], delivered=8).counts)
    assert 'relay_attempts_total{provider="a",result="delivered"} 13.0' in text
    assert 'relay_attempts_total{provider="a",result="retry"} 2.0' in text
    assert 'relay_request_seconds_sum{provider="a",status_class="2xx"} 6.0' in text
    assert 'relay_part_failures_total{part="lane a"} 3.0' in text


def test_a_build_and_its_processes_are_described() -> None:
    text = exposed(a_health([1.0], delivered=1))
    assert f'version="{__version__}"}} 1.0' in text
    assert "\nprocess_resident_memory_bytes " in text
    assert 'relay_worker_resident_memory_bytes{place="0"} ' in text
    assert 'relay_worker_cpu_seconds_total{place="0"} ' in text


@given(counts, counts, counts)
def test_counts_add_up_in_any_order(one: ProcessCounts, two: ProcessCounts, three: ProcessCounts) -> None:
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + ProcessCounts() == one
