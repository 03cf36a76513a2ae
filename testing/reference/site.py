"""The source of the documentation's site: `docs/`, and the other files that its pages link to.

On a site there is no file outside of `docs/`. So a linked Markdown file becomes a page below `project/`, any
other file a page with its text, and a folder a page with the names of its files.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "build/docs"
"""The folder that `mkdocs.yml` names."""

_LINK = re.compile(r"(?<=\]\()([^)#\s]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {
    ".py": "python",
    ".lua": "lua",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".service": "ini",
}


def write(folder: Path) -> None:
    """Write the source into this folder, and remove its former content."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.md"))
    waiting = sorted((ROOT / "docs").rglob("*.md"))
    done = set(waiting)
    while waiting:
        path = waiting.pop()
        linked: set[Path] = set()
        page = folder / place(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_with_links(path, linked) if path.suffix == ".md" else _as_page(path))
        waiting += sorted(linked - done)
        done |= linked


def place(path: Path) -> Path:
    """The page of a file of the repository."""
    if path.is_relative_to(ROOT / "docs"):
        return path.relative_to(ROOT / "docs")
    if path.is_dir() and (path / "README.md").exists():
        path /= "README.md"
    named = Path("project") / path.relative_to(ROOT)
    return named if path.suffix == ".md" else named.with_name(f"{named.name}.md")


def _with_links(path: Path, linked: set[Path]) -> str:
    """The text of a Markdown file with the links of its page. Adds the files that need pages to `linked`."""

    def link(found: re.Match[str]) -> str:
        if ":" in found[1]:
            return found[0]
        target = (path.parent / found[1]).resolve()
        if target.is_dir() and (target / "README.md").exists():
            target /= "README.md"
        if target.suffix not in {".png", ".svg"}:
            linked.add(target)
        elif not target.is_relative_to(ROOT / "docs"):
            raise ValueError(f"{path}: {found[0]}: pictures belong in docs/images/")
        there = place(target) if target in linked else target.relative_to(ROOT / "docs")
        return os.path.relpath(there, place(path).parent) + (found[2] or "")

    return _LINK.sub(link, path.read_text())


def _as_page(path: Path) -> str:
    """A page with the text of a file, or with the files of a folder. The search does not find it."""
    name = path.relative_to(ROOT)
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n"
    if path.is_dir():
        return head + "".join(f"- `{file.relative_to(path)}`\n" for file in sorted(_files(path)))
    return f"{head}````{_LANGUAGES.get(path.suffix, '')}\n{path.read_text()}````\n"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


if __name__ == "__main__":
    write(SOURCE)
