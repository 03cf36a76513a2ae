"""The parts of the documentation that are made from the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.reference.documents import DOCS, documents

PAGES = documents()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_reference_is_the_one_that_the_code_generates(page: Path) -> None:
    """`make docs-reference` writes it."""
    assert page.read_text() == PAGES[page]
