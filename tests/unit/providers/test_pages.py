"""The pages of the providers: each adapter has one, on one skeleton."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.settings.load import loads
from testing.reference.configuration import built_in
from testing.reference.documents import DOCS

OURS = built_in()
PAGES = DOCS / "reference" / "providers"
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


VALUES = {"http": "https://api.example.com/x", "redis": "x", "webhook": "whsec_" + "YWJj" * 8}
"""A value that suits each variable on a page. The pages of the other providers need files."""


def blocks() -> Iterator[Any]:
    for name in VALUES:
        texts = re.findall(
            r"^```yaml\n(providers:\n.*?)^```", (PAGES / f"{name}.md").read_text(), re.M | re.S
        )
        for number, text in enumerate(texts, 1):
            yield pytest.param(name, text, id=f"{name}-{number}")


@pytest.mark.parametrize(("name", "text"), blocks())
def test_a_configuration_on_a_page_is_valid(name: str, text: str, tmp_path: Path) -> None:
    env = dict.fromkeys(re.findall(r"\$\{([A-Z_]+)\}", text), VALUES[name])
    options = {name: adapter.Options for name, adapter in OURS.items()}
    assert loads(f"queues: [{{name: q}}]\n{text}", tmp_path / "relay.yaml", options, env).providers
