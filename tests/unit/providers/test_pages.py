"""The pages of the providers: each adapter has one, with all of its own options."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from relay.provider import Provider, discover
from relay.provider.discovery import ENTRY_POINTS
from relay.settings.http import HttpOptions
from relay.settings.options import ProviderOptions

PAGES = Path(__file__).parents[3] / "docs/providers"
OURS = {
    entry.name: discover()[entry.name]
    for entry in entry_points(group=ENTRY_POINTS)
    if entry.value.startswith("providers.")
}
WITH_TABLES = ("apns", "apprise", "fcm", "http", "pusher", "redis", "webhook")


def test_the_list_names_each_adapter_and_its_page() -> None:
    listed = re.findall(
        r"^\| \[`([a-z]+)`\]\(([a-z]+)\.md\)", (PAGES / "README.md").read_text(), re.MULTILINE
    )
    assert [name for name, _ in listed] == sorted(OURS)
    assert all(name == page and (PAGES / f"{page}.md").is_file() for name, page in listed)


@pytest.mark.parametrize("name", WITH_TABLES)
def test_a_page_names_every_option_of_its_own(name: str) -> None:
    adapter: type[Provider[ProviderOptions]] = OURS[name]
    own = set(adapter.Options.model_fields) - set(HttpOptions.model_fields)
    text = (PAGES / f"{name}.md").read_text()
    assert [option for option in own if not re.search(rf"\b{option}\b", text)] == []
