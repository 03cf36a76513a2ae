"""The map for contributors shows the folders that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_a_map_row_for_each_folder_of_relay_and_no_other() -> None:
    rows = set(re.findall(r"^\| `([\w/]+)/` \|", TEXT, re.MULTILINE))
    assert {row for row in rows if not (ROOT / row).is_dir()} == set()
    packages = {f"relay/{path.parent.name}" for path in (ROOT / "relay").glob("*/__init__.py")}
    assert packages <= rows


def test_a_path_in_the_guide_exists() -> None:
    paths = set(re.findall(r"\b(?:relay|providers|tests|docs)/[\w./-]+\w\.(?:py|lua|md)\b", TEXT))
    assert {path for path in paths if "NAME" not in path and not (ROOT / path).exists()} == set()


def test_a_module_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    modules = {f"/{path.relative_to(ROOT)}" for path in (ROOT / "relay").rglob("*") if path.is_file()}
    named = set(re.findall(r"`([\w/]+\.(?:py|lua))`", text))
    assert {name for name in named if not any(module.endswith(f"/{name}") for module in modules)} == set()
