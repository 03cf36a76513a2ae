"""The measurements themselves, with few messages: they count every message that was pushed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import memory
from bench.measure import Servers, Unfinished
from bench.producers import Lists
from bench.systems import EVERY, Peer, Relay
from bench.workloads import WORKLOADS

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None,
    reason="no nginx: bench/peers/install nginx",
)
WEBHOOK, APNS = (workload for workload in WORKLOADS if workload.name in {"webhook", "apns"})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = Servers(tmp_path_factory.mktemp("bench"))
    yield found
    found.close()


@needs_nginx
def test_a_backlog_is_drained_to_its_end(servers: Servers) -> None:
    found = servers.backlog(Relay(), WEBHOOK, 5000, 30)
    assert found.messages_per_second > 0
    assert found.peak > 1
    assert servers.redis.llen("bench") == 0


@needs_nginx
def test_latencies_are_those_of_all_messages_over_http_2_too(servers: Servers) -> None:
    found = servers.steady(Relay(), APNS, per_second=100, seconds=0.3, rest=0.1)
    assert len(found.ages) == 30
    assert found.lost == 0
    assert all(0 < age < 60 for age in found.ages)


@needs_nginx
def test_a_system_that_ends_early_is_reported_with_its_last_output(servers: Servers) -> None:
    broken = Peer("broken", ".", "sh -c exit", Lists, EVERY)
    with pytest.raises(Unfinished, match="it ended with status"):
        servers.backlog(broken, WEBHOOK, 10, 10)


async def test_a_waiting_message_takes_at_least_the_bytes_of_its_payload(tmp_path: Path) -> None:
    rows = (await memory.table(tmp_path, 400))[2:]
    assert len(rows) == len(list(memory.cases()))
    for case, row in zip(memory.cases(), rows, strict=True):
        _, name, *sizes, _ = (cell.strip() for cell in row.split("|"))
        assert name == case.name
        assert all(float(size.replace(",", "")) > case.payload for size in sizes if size)
