"""docs/reference/status.md has every field of the documents, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from relay.operations.documents import fleet_document, provider_document
from relay.store.fleet import Member, WorkerInfo
from relay.store.overview import TOTALS, LaneStatus, Overview, QueueStatus

PAGE = (Path(__file__).parents[3] / "docs/reference/status.md").read_text()
LANE = LaneStatus("hook", "running", "", 0, 0, 0, 0, 0, 0, 0, dict.fromkeys(TOTALS, 0))
WORKER = Member(WorkerInfo("w", "host", "", 1, "1", 0.0), 1.0, 0.0)


def fields_of(heading: str) -> set[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    firsts = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return {name for cell in firsts for name in re.findall(r"`(\w+)`", cell)}


def keys(document: Iterable[str]) -> set[str]:
    return set(document)


def test_each_field_of_the_fleet_is_described() -> None:
    document: Any = fleet_document(Overview(0.0, [QueueStatus("q", 0, 0, 0)], [LANE], [WORKER]), "")
    assert fields_of("The fleet") == keys(document)
    for heading, part in (("A queue", "queues"), ("A lane", "lanes"), ("A worker", "workers")):
        assert fields_of(heading) == keys(document[part][0])


def test_each_field_of_a_provider_is_described() -> None:
    document = provider_document(Overview(0.0, [], [LANE], [WORKER]))
    described = fields_of("`relay status PROVIDER --json`")
    assert described | fields_of("A lane") | {"at"} == keys(document)
