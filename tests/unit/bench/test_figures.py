"""From runs to tables and charts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from bench import plots, tables
from bench.__main__ import chosen_systems
from bench.measure import Backlog, Steady
from bench.processes import descendants, usage
from bench.receiver import pushed
from bench.suite import Found, document
from bench.workloads import WORKLOADS, Workload, elements, fresh
from relay.message import parse_bare, parse_envelope
from relay.message.fan_out import MOST_AT_ONCE, FanOut, expand, split
from relay.provider import discover
from relay.settings.load import load
from testing.http2_server import certificates


def a_backlog(rate: float) -> Backlog:
    return Backlog(rate, cpu=10.0, redis_cpu=1.0, peak=70.0)


@pytest.fixture
def found() -> Found:
    ages = tuple(number / 1000 for number in range(1, 1001))
    return Found(
        {
            ("webhook", "relay"): [a_backlog(6000), a_backlog(3000), a_backlog(6200)],
            ("webhook", "a & b"): [a_backlog(3000), a_backlog(1500), a_backlog(2000)],
        },
        {("webhook", "relay"): Steady(ages, 2, 0.2, 0.05, 0.0, 0.001)},
        {("apns", "a & b"): "failed: it ended with status 1: no key"},
    )


def test_a_ratio_is_of_the_same_round(found: Found) -> None:
    other = document(found)["backlog"]["webhook"]["a & b"]
    assert other["messages_per_second"] == 2000
    # 2, 2 and 3.1: the slow second round was slow for both.
    assert other["relay_is"] == 2


def test_latencies_are_in_milliseconds(found: Found) -> None:
    late = document(found)["steady"]["webhook"]["relay"]
    assert late["p50_ms"] == pytest.approx(500, abs=2)
    assert late["p99_ms"] == pytest.approx(990, abs=2)
    assert late["lost"] == 2


def test_the_tables_show_all_of_it(found: Found) -> None:
    text = tables.suite(document(found))
    assert "| a & b | 2,000 | 2.00 × | 10.0 | 1.0 | 70 |" in text
    assert "apns: a & b: failed: it ended with status 1: no key" in text


def test_the_charts_are_svg(found: Found, tmp_path: Path) -> None:
    paths = plots.write(document(found), tmp_path)
    assert {path.stem for path in paths} == {"bench-rate", "bench-cpu", "bench-latency"}
    for path in paths:
        texts = [element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]
        assert "relay" in texts


def test_an_unknown_system_is_named() -> None:
    with pytest.raises(SystemExit, match="no nobody; known: relay, bare lane path"):
        chosen_systems(["nobody"])


def test_cpu_time_of_a_process_and_its_child_is_counted() -> None:
    busy = "import time\nwhile time.process_time() < 0.05: pass\nprint(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        (child,) = descendants(process.pid)
        both, one = usage(process.pid), usage(child)
        assert both.cpu >= one.cpu > 0
        assert both.peak > one.peak > 1
        process.stdin.write("\n")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_each_message_is_valid_and_contains_its_time(workload: Workload, tmp_path: Path) -> None:
    ca, _, _ = certificates(tmp_path)
    providers = workload.providers(
        "https://127.0.0.1:1" if workload.tls else "http://127.0.0.1:1", ca, tmp_path
    )
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump({"queues": [{"name": "bench"}], "providers": providers}))
    adapters = discover()
    options = load(path, {name: adapter.Options for name, adapter in adapters.items()}).providers
    for text in (*elements(workload, 0, 2), fresh(workload, 2)):
        element, name = text.encode(), next(iter(options))
        if workload.bare:
            message = parse_bare(element, "bench", time.time())
        else:
            named, message = parse_envelope(element, "bench", time.time())
            name = named or name
        adapter = adapters[options[name].type](name, options[name])
        item = split(message, adapter.target_field, MOST_AT_ONCE)
        assert isinstance(item, FanOut) == (workload.targets > 1)
        targets = expand(item.message, "1", item.chunks[0], 0) if isinstance(item, FanOut) else [item]
        assert len(targets) == workload.targets
        assert [adapter.check(target) for target in targets] == [None] * len(targets)
    sent = pushed(json.dumps({"data": fresh(workload, 2)}).encode())
    assert sent == [pytest.approx(time.time(), abs=10)]
