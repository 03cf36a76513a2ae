"""`${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.settings.conftest import Problems, PusherOptions, Read

HEAD = """\
queues: [{name: a}]
providers:
  p:
    type: pusher
    app_id: ${ID:-1}
    key: abc
    secret: s
"""


def option(read: Read, text: str, **env: str) -> Any:
    """The value of the one option that `text` writes."""
    return getattr(read(f"{HEAD}    {text}\n", **env).providers["p"], text.partition(":")[0])


@pytest.mark.parametrize(
    ("text", "env", "value"),
    [
        ("burst: ${BURST:-20}", {}, 20),
        ("burst: ${BURST:-20}", {"BURST": "7"}, 7),
        ("burst: ${BURST:-20}", {"BURST": ""}, 20),
        ("burst: ${BURST}", {"BURST": ""}, None),
        ("adaptive: ${ON}", {"ON": "yes"}, True),
        ('event: "${E}"', {"E": "7"}, "7"),
        ("event: '${E:-null}'", {}, "null"),
        ("event: ${A}-${B:-b}!", {"A": "a"}, "a-b!"),
        ("event: $${A} $A $$", {"A": "a"}, "${A} $A $$"),
        ("event: ${A}", {"A": "${B}"}, "${B}"),
        ("event: ${A:-a, b: [c] #e}", {}, "a, b: [c] #e"),
        ("event: >-\n      ${A}\n      b", {"A": "a"}, "a b"),
        ("rate: [${A:-1/s}, ${B:-20/10s}]", {}, "1/s 20/10s"),
    ],
)
def test_a_reference_is_filled(read: Read, text: str, env: dict[str, str], value: object) -> None:
    found = option(read, text, **env)
    assert (" ".join(map(str, found)) if isinstance(found, tuple) else found) == value


@pytest.mark.parametrize("value", ["123", "0123", "1e5", "12_3", "0x1F", "true", "1.10", "on", "1:30"])
def test_text_stays_as_written_even_if_yaml_sees_a_number(read: Read, value: str) -> None:
    for settings in (read(HEAD, ID=value), read(HEAD.replace("${ID:-1}", value))):
        options = settings.providers["p"]
        assert isinstance(options, PusherOptions)
        assert options.app_id == value


@pytest.mark.parametrize(
    "value", ["[a, b]", "{a: b}", "a: b", "*x", "&x y", "!!python/object:os.system x", "a\nb: c"]
)
def test_the_environment_cannot_inject_structure(read: Read, value: str) -> None:
    assert option(read, "event: ${E}", E=value) == value
    assert option(read, 'event: "${E}"', E=value) == value


def test_a_merge_key_cannot_come_from_the_environment(problems: Problems) -> None:
    assert problems(f"{HEAD}    ${{M}}: {{burst: 1}}\n", M="<<")[0].startswith(
        'relay.yaml:8:5: providers.p["<<"]: unknown key'
    )


def test_references_work_inside_flow_mappings_as_in_the_contract(read: Read) -> None:
    text = HEAD + "admin: {listen: 127.0.0.1:9464, token: ${RELAY_ADMIN_TOKEN:-}}\n"
    assert read(text).admin.token is None
    token = read(text, RELAY_ADMIN_TOKEN="open-sesame").admin.token
    assert token is not None
    assert token.get_secret_value() == "open-sesame"


def test_positions_are_those_of_the_file_also_behind_references(problems: Problems) -> None:
    text = HEAD + "log: {level: ${LEVEL:-info}, format: ${FORMAT:-xml}}\n"
    assert problems(text)[0].startswith("relay.yaml:8:38: log.format: expected auto, console or json, got")


def test_every_undefined_variable_is_named_at_once(problems: Problems) -> None:
    (line,) = problems(f"{HEAD}    event: ${{A}}${{B}}\n")
    assert "variable A is not set" in line
    assert "variable B is not set" in line
