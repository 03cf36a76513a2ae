"""The parts of the documentation that are made from the code."""

from __future__ import annotations

from testing.reference.documents import documents


def test_the_reference_is_the_one_that_the_code_generates() -> None:
    """`make docs-reference` writes it."""
    assert [page for page, text in documents().items() if page.read_text() != text] == []
