"""The keys of the configuration in words, made from the models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import pytest
from pydantic import Field

from relay.settings.options import Options, ProviderOptions
from relay.settings.reference import Key, as_yaml, keys_of
from relay.settings.values import (
    Count,
    Duration,
    Patterns,
    Rates,
    Secret,
    Size,
    Switch,
    format_size,
    parse_size,
)


class Inner(Options):
    deep: Count = 3
    """A number."""


class Sample(Options):
    needed: str
    """A text."""
    wait: Annotated[Duration, Field(gt=0)] = 90.0
    """A time."""
    room: Size = 1024
    """A size."""
    limit: Rates = ()
    """A rate. Default: unlimited."""
    number: Annotated[Count, Field(le=100)] | None = None
    """A number."""
    name: Annotated[str, Field(min_length=1, max_length=9)] | None = None
    """A name."""
    names: Patterns = ("*",)
    """Patterns."""
    token: Secret | None = None
    """A secret."""
    tokens: list[Secret] = []
    """Secrets."""
    on: Switch = False
    """A switch."""
    side: Literal["left", "right"] = "left"
    """A side."""
    inner: Inner = Inner()
    """A section."""
    each: dict[str, Inner] = {}
    """Sections."""
    several: list[Inner] = []
    """More sections."""


KEYS = {key.path: key for key in keys_of(Sample)}


def test_a_key_has_its_values_and_limits_in_words() -> None:
    assert {path: key.kind for path, key in KEYS.items()} == {
        "needed": "text",
        "wait": "duration > 0",
        "room": "size",
        "limit": "rate or list of rates",
        "number": "whole number from 1 to 100",
        "name": "text of 1 to 9 characters",
        "names": "text or list of texts",
        "token": "secret, or `token_file`",
        "tokens": "list of secrets, or `tokens_file` with one in each line",
        "on": "`true` or `false`",
        "side": "`left` or `right`",
        "inner": "mapping",
        "inner.deep": "whole number ≥ 1",
        "each": "mapping",
        "each.NAME.deep": "whole number ≥ 1",
        "several": "list of mappings",
        "several[].deep": "whole number ≥ 1",
    }


def test_a_default_is_written_as_in_the_file_or_in_the_words_of_the_docstring() -> None:
    found = {path: key.default or key.default_in_words for path, key in KEYS.items()}
    assert found == {
        "needed": "",
        "wait": "1m30s",
        "room": "1KiB",
        "limit": "unlimited",
        "number": "none",
        "name": "none",
        "names": '["*"]',
        "token": "none",
        "tokens": "[]",
        "on": "false",
        "side": "left",
        "inner": "",
        "inner.deep": "3",
        "each": "",
        "each.NAME.deep": "3",
        "several": "",
        "several[].deep": "3",
    }
    assert [path for path, key in KEYS.items() if key.is_required] == ["needed"]
    assert KEYS["limit"].meaning == "A rate."


def test_an_adapter_whose_option_has_no_json_schema_is_listed_all_the_same() -> None:
    class Odd(ProviderOptions):
        hook: Callable[[], None] | None = None
        """Something."""

    (hook,) = [key for key in keys_of(Odd) if key.path == "hook"]
    assert hook == Key("hook", "any value", "", "none", is_required=False, meaning="Something.", example="")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a:b", "a:b"),
        ("*", '"*"'),
        ("10", '"10"'),
        ("true", '"true"'),
        ("", '""'),
        (0.5, "0.5"),
    ],
)
def test_a_value_is_quoted_where_yaml_would_read_another(value: object, written: str) -> None:
    assert as_yaml(value) == written


@pytest.mark.parametrize("size", [0, 1, 1000, 1024, 1536, 2**20, 3 * 2**30])
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert parse_size(format_size(size)) == size
