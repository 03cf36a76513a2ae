"""The pages of the providers: each adapter has one, on one skeleton."""

from __future__ import annotations

import re

import pytest

from testing.reference.configuration import built_in
from testing.reference.documents import DOCS

OURS = built_in()
PAGES = DOCS / "providers"
SKELETON = ["Payloads", "Options", "Answers", "Limits", "Troubleshooting"]
TEMPLATED = "http"
"""Its payloads are those of its examples."""


def test_the_list_names_each_adapter_and_its_page() -> None:
    listed = re.findall(
        r"^\| \[`([a-z]+)`\]\(([a-z]+)\.md\)", (PAGES / "README.md").read_text(), re.MULTILINE
    )
    assert [name for name, _ in listed] == sorted(OURS)
    assert all(name == page and (PAGES / f"{page}.md").is_file() for name, page in listed)


@pytest.mark.parametrize("name", OURS)
def test_a_page_has_the_common_parts_in_their_order(name: str) -> None:
    headings = re.findall(r"^## (.*)$", (PAGES / f"{name}.md").read_text(), re.MULTILINE)
    wanted = SKELETON[1:] if name == TEMPLATED else SKELETON
    assert [heading for heading in headings if heading in wanted] == wanted
