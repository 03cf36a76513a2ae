"""The loader of scripts: parts, names of keys and fields, constants."""

from __future__ import annotations

import re

import pytest

from relay.store.script_text import FOLDER, assemble, read_script

SCRIPTS = sorted(path.name.removesuffix(".lua") for path in FOLDER.iterdir() if path.name.endswith(".lua"))
PARTS = {path.name.removesuffix(".lua"): path.read_text("utf-8") for path in (FOLDER / "parts").iterdir()}
INCLUDES = re.compile(r"-- @include (\w+)")


def text_of(source: str, parts: dict[str, str] | None = None) -> str:
    return assemble(source, (parts or {}).__getitem__).text


NO_PARTS: dict[str, str] = {}


def test_a_part_stands_once_where_it_is_first_included() -> None:
    parts = {"a": "-- @include b\nA\n", "b": "B\n"}
    assert text_of("-- @include a\n-- @include b\nC\n", parts).split() == ["B", "A", "C"]


def test_a_part_in_a_block_is_known_to_that_block_only() -> None:
    parts = {"a": "A\n"}
    source = "if x then\n  -- @include a\n  -- @include a\nend\n-- @include a\n"
    assert text_of(source, parts).split() == ["if", "x", "then", "A", "end", "A"]


def test_a_script_gets_the_keys_of_the_lane_that_it_names_and_then_its_own() -> None:
    assembled = assemble("-- @key MINE\nf(DUE, CONTROL, MINE, READY[level + 1])\n", NO_PARTS.__getitem__)
    assert assembled.text.splitlines()[1] == "f(KEYS[5], KEYS[1], KEYS[6], KEYS[1 + level + 1])"
    assert assembled.lane_parts == ("control", "ready:high", "ready:normal", "ready:low", "due")


def test_a_key_that_a_script_declares_is_not_the_lanes() -> None:
    assembled = assemble("-- @key OUTBOX\nf(OUTBOX)\n", NO_PARTS.__getitem__)
    assert (assembled.text.splitlines()[1], assembled.lane_parts) == ("f(KEYS[1])", ())


def test_a_key_with_dots_stands_for_all_that_follow() -> None:
    source = "-- @key ONE\n-- @key OTHERS...\nfor i = 1, #OTHERS do f(OTHERS[i]) end\n"
    assert text_of(source).splitlines()[2] == "for i = 1, (#KEYS - 1) do f(KEYS[1 + i]) end"


def test_a_list_of_keys_needs_an_index() -> None:
    with pytest.raises(ValueError, match="READY is a list of keys"):
        text_of("f(READY)")


def test_a_field_of_a_header_is_a_position_and_other_fields_are_not() -> None:
    assert text_of("f(header.id, old_header.id, fan.id)") == "f(header[1], old_header[1], fan.id)".replace(
        "[1]", f"[{text_of('header.id')[7:-1]}]"
    )
    with pytest.raises(ValueError, match="not in tuple"):
        text_of("header.nothing")


def test_a_constant_is_its_value_except_in_text_and_comments() -> None:
    source = "local MOST = 200 -- of them\nlocal KIND = 'x'\nf(MOST, KIND, 'MOST', a.MOST) -- MOST\n"
    assert text_of(source) == "f(200, 'x', 'MOST', a.MOST) -- MOST\n"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_every_part_that_it_includes(name: str) -> None:
    source = (FOLDER / f"{name}.lua").read_text("utf-8")
    texts = {name: source} | {part: PARTS[part] for part in _all_parts(source)}
    for user, text in texts.items():
        for part in INCLUDES.findall(text):
            defined = re.findall(r"^local (?:function (\w+)|([A-Z_]+) =)", PARTS[part], re.MULTILINE)
            others = "\n".join(other for title, other in texts.items() if title != part)
            used = any(re.search(rf"\b{one}\b", others) for pair in defined for one in pair if one)
            assert used or not defined, f"{user} includes {part} and uses nothing of it"


def _all_parts(source: str) -> set[str]:
    found = set(INCLUDES.findall(source))
    return found.union(*(_all_parts(PARTS[part]) for part in found))


def test_every_part_is_included_by_a_script() -> None:
    scripts = "\n".join((FOLDER / f"{name}.lua").read_text("utf-8") for name in SCRIPTS)
    assert _all_parts(scripts) == set(PARTS) - {"for_each_lane"}  # the frame of `NAME:lanes`


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_declares_every_key_and_constant_that_it_names(name: str) -> None:
    text = re.sub(r"--[^\n]*|'(?:\\.|[^'\\\n])*'|\"[^\"\n]*\"", "", read_script(name).text)
    named = set(re.findall(r"(?<![\w.])[A-Z][A-Z_0-9]*\b", text))
    assert named.isdisjoint(read_script(name).own_keys)
    assert named <= {"KEYS", "ARGV", *re.findall(r"^ *local (\w+)", text, re.MULTILINE)}
