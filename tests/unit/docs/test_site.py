"""The site of the documentation has all pages, and each link of a page has a page to lead to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from testing.reference import site

ROOT = Path(__file__).parents[3]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
DOCS = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


def named(nav: object) -> Iterator[str]:
    """The pages of a menu and of the menus in it."""
    match nav:
        case str(page):
            yield page
        case list(entries):
            for entry in entries:
                yield from named(entry)
        case dict(sections):
            for entries in sections.values():
                yield from named(entries)


def test_a_menu_names_each_page_once_but_single_decisions() -> None:
    menu = list(named(CONFIG["nav"]))
    assert len(menu) == len(set(menu))
    pages = {page for page in DOCS if not page.startswith("decisions/0")}
    assert {page for page in menu if not page.startswith("project/")} == pages


def sections(nav: object) -> Iterator[list[object]]:
    """The lists of entries of a menu and of the menus in it."""
    match nav:
        case list(entries):
            yield entries
            for entry in entries:
                yield from sections(entry)
        case dict(named):
            for entries in named.values():
                yield from sections(entries)


def test_a_menu_shows_each_index_page() -> None:
    """A README.md is the page of the title of its section, so it must be the first page there."""
    for entries in sections(CONFIG["nav"]):
        pages = [entry for entry in entries if isinstance(entry, str)]
        assert [page for page in pages[1:] if page.endswith("README.md")] == []


def test_a_site_loads_nothing_from_other_hosts() -> None:
    assert CONFIG["theme"]["font"] is False
    assert "://" not in (ROOT / "mkdocs.yml").read_text()
    assert "offline" not in CONFIG["plugins"], "it loads a script from another host"


def test_a_source_has_a_page_for_each_linked_file(tmp_path: Path) -> None:
    site.write(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")} >= DOCS
    assert "# Contributing" in (tmp_path / "project/CONTRIBUTING.md").read_text()
    code = (tmp_path / "project/relay/store/keys.py.md").read_text()
    assert (ROOT / "relay/store/keys.py").read_text() in code
    page = (tmp_path / "explanation/architecture.md").read_text()
    assert "](../project/relay/store/keys.py.md)" in page
    assert "](../decisions/README.md)" in page


def test_a_page_has_no_diagram_that_a_script_draws(tmp_path: Path) -> None:
    site.write(tmp_path)
    assert [path for path in tmp_path.rglob("*.md") if "```mermaid" in path.read_text()] == []
