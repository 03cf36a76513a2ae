"""Each decision is one short file with date, status and four parts, and the index lists all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "docs/decisions"
FILES = sorted(FOLDER.glob("[0-9]*.md"))
MOST_WORDS = 150
HEAD = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\n- Date: (?P<date>\d{4}-\d\d-\d\d)\n- Status: (?P<status>.+)\n"
)
PARTS = ["Context", "Choice", "Consequences"]


def status_of(text: str) -> str:
    """`accepted`, or `superseded by N` without its link."""
    head = HEAD.match(text)
    assert head
    return re.sub(r"\[(\d+)\]\(.+\)", r"\1", head["status"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_decision_has_date_status_and_its_parts_in_few_words(path: Path) -> None:
    text = path.read_text()
    head = HEAD.match(text)
    assert head, f"{path}: begin with `# N. Title`, `- Date: YYYY-MM-DD` and `- Status: accepted`"
    assert int(head["number"]) == int(path.name[:4])
    body = text[head.end() :]
    title, *parts = re.split(r"\n## (.+)\n\n", body)
    assert title.strip() == ""
    assert parts[::2] == PARTS
    assert all(part.strip() for part in parts[1::2])
    words = sum(len(part.split()) for part in parts[1::2])
    assert words <= MOST_WORDS, f"{path}: {words} words; move details to docs/decisions/experiments.md"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_superseded_decision_names_a_newer_one(path: Path) -> None:
    status = status_of(path.read_text())
    if status != "accepted":
        found = re.fullmatch(r"superseded by (\d+)", status)
        assert found, f"{path}: `accepted`, or `superseded by N`"
        assert int(path.name[:4]) < int(found[1]) <= len(FILES)


def test_an_index_lists_each_decision_with_title_date_and_status() -> None:
    rows = re.findall(
        r"^\| (\d+) \| \[(.+?)\]\((.+?)\) \| (.+?) \| (.+?) \|$",
        (FOLDER / "README.md").read_text(),
        re.MULTILINE,
    )
    expected = []
    for number, path in enumerate(FILES, 1):
        text = path.read_text()
        head = HEAD.match(text)
        assert head
        expected.append((str(number), head["title"], path.name, head["date"], status_of(text)))
    assert rows == expected
