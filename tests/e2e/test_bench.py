"""The measurements themselves, with few messages: what is counted is all that was pushed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from bench.measure import Place, Unfinished
from bench.producers import Lists
from bench.systems import EVERY, Peer, Relay
from bench.work import WORKS

pytestmark = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None,
    reason="no nginx: bench/peers/install nginx",
)
WEBHOOK, APNS = (work for work in WORKS if work.name in {"webhook", "apns"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("bench"))
    yield found
    found.close()


def test_a_backlog_is_drained_to_its_end(place: Place) -> None:
    found = place.backlog(Relay(), WEBHOOK, 5000, 30)
    assert found.messages_per_second > 0
    assert found.peak > 1
    assert place.redis.llen("bench") == 0


def test_latencies_are_those_of_all_messages_over_http_2_too(place: Place) -> None:
    found = place.steady(Relay(), APNS, per_second=100, seconds=0.3, rest=0.1)
    assert len(found.ages) == 30
    assert found.lost == 0
    assert all(0 < age < 60 for age in found.ages)


def test_a_system_that_ends_early_is_reported_with_its_last_output(place: Place) -> None:
    broken = Peer("broken", ".", "sh -c exit", Lists, EVERY)
    with pytest.raises(Unfinished, match="it ended with status"):
        place.backlog(broken, WEBHOOK, 10, 10)
