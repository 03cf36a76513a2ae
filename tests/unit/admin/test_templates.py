"""The templates of the console."""

from __future__ import annotations

import re

import pytest

from relay.admin.console.rendering import HERE
from relay.admin.console.screens import SCREENS

AFTER_THE_BAR = {"main", "dialogs"}


@pytest.mark.parametrize("name", [screen.template for screen in SCREENS])
def test_a_screen_fills_only_the_parts_after_the_bar(name: str) -> None:
    """The head and the bar may be sent before the screen is rendered, from the layout alone."""
    blocks = re.findall(r"{% block (\w+)", (HERE / "templates" / name).read_text("utf-8"))
    assert set(blocks) <= AFTER_THE_BAR
