"""Docstrings begin with a noun or a verb, and all texts avoid words that few readers use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = ("relay", "providers", "testing", "bench", "chaos", "release", "tests")
PAGES = ("docs", "examples")
CLAUSE = re.compile(r'"""(What|Whatever|Who|Whoever|Whom|Whose|Where|When|Which|How) ')
RARE = re.compile(r"\b([Aa]new|[Bb]eside|[Ff]or ever|whoever|[Aa]fresh|[Ll]est|[Tt]hereof|[Ww]hilst)\b")


def files(folders: tuple[str, ...], suffixes: set[str]) -> Iterator[Path]:
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in suffixes and "node_modules" not in path.parts and path != Path(__file__):
                yield path


def found(pattern: re.Pattern[str], paths: Iterator[Path]) -> list[str]:
    """The places and texts that match."""
    places = []
    for path in paths:
        text = path.read_text()
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            places.append(f"{path.relative_to(ROOT)}:{line}: {text[match.start() : match.start() + 80]}")
    return places


def test_a_docstring_begins_with_a_noun_or_a_verb() -> None:
    assert found(CLAUSE, files(CODE, {".py"})) == []


def test_pages_and_code_avoid_rare_words() -> None:
    assert found(RARE, files((*CODE, *PAGES), {".py", ".md", ".lua", ".html"})) == []
    assert found(RARE, iter(ROOT.glob("*.md"))) == []
