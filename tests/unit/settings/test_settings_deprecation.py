"""Deprecated keys of the configuration work, with a warning."""

from __future__ import annotations

from typing import Annotated, Any

from relay.cli.advice import local_findings
from relay.settings.deprecation import Deprecated
from relay.settings.load import loads
from relay.settings.options import Options, ProviderOptions
from relay.settings.schema import config_schema
from relay.settings.snapshot import SecretFiles


class Inner(Options):
    """Part of an option."""

    size: Annotated[int, Deprecated("write `length`")] = 1
    """The length."""
    length: int = 1
    """The length."""


class OldOptions(ProviderOptions):
    """Options of `type: old`."""

    inner: Inner = Inner()
    """Part."""


def warnings(options: str) -> list[str]:
    text = f"queues: [{{name: q}}]\nproviders: {{hook: {{type: old, {options}}}}}\n"
    settings = loads(text, "relay.yaml", {"old": OldOptions}, {}, SecretFiles())
    return [finding.text for finding in local_findings(settings) if finding.subject == "deprecated"]


def test_a_deprecated_key_works_and_its_use_is_a_warning_with_its_path() -> None:
    assert warnings("inner: {size: 3}") == [
        "providers.hook.inner.size will be refused by a later version: write `length`"
    ]


def test_a_file_without_deprecated_keys_has_no_warning() -> None:
    assert warnings("inner: {length: 3}") == []


def test_an_editor_learns_that_a_key_is_deprecated() -> None:
    definitions: dict[str, Any] = config_schema({"old": OldOptions})["$defs"]
    assert definitions["Inner"]["properties"]["size"]["deprecated"] is True
    assert "deprecated" not in definitions["Inner"]["properties"]["length"]
