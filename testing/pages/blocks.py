"""The blocks of the pages, and the commands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHELLS = ("sh", "console")

_FOLDERS = ("docs", "examples", "deploy", "release", ".github")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
_HEADING = re.compile(r"^#+ ", re.M)
_COMMENT = re.compile(r"(^|\s{2,})# .*$")
"""Pages put a comment behind two spaces at least, so a `#` within a word or a quoted text is none."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str
    section: int = 0
    """The number of headings above it."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return the pages of the repository, except the decisions, which are history."""
    found = [*ROOT.glob("*.md"), *(page for folder in _FOLDERS for page in (ROOT / folder).rglob("*.md"))]
    return sorted(
        str(page.relative_to(ROOT)) for page in found if not {"decisions", "node_modules"} & {*page.parts}
    )


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the blocks of a page, or those of a part of it."""
    whole = (ROOT / page).read_text()
    start = whole.index(text) if text else 0
    found: list[Block] = []
    section, end = 0, 0
    for match in _BLOCK.finditer(whole, start, start + len(text) if text else len(whole)):
        lines = match["text"].splitlines(keepends=True)
        body = "".join(line.removeprefix(match["indent"]) for line in lines)
        line = whole.count("\n", 0, match.start()) + 1
        section += len(_HEADING.findall(whole, end, match.start()))
        end = match.end()
        found.append(Block(page, line, match["language"], body, section))
    return found


def commands(block: Block) -> list[str]:
    """Return the commands of a shell's block, without comments and prompts."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    bare = (_COMMENT.sub("", line).strip() for line in lines)
    return [line for line in bare if line]
