"""Builds the text of a script for Redis: includes parts, and turns names of keys and fields into positions.

A script names its parts, keys and constants. Redis runs plain Lua with positions, because Lua creates every
function of a script at each call, and names that functions share increase the cost:

    -- @include NAME    becomes the text of parts/NAME.lua and of the parts that it includes, each once
    -- @key NAME        declares a key in addition to those of the lane; NAME... is all remaining keys
    -- @key? NAME       the same for an optional key
    BODIES              is a key: KEYS[2]; READY[level], one of a list of keys: KEYS[4 + level]
    header.expires      is a field of a record's header: header[1]
    local MOST = 200    is a constant: its value replaces its name
    -- @if groups       begins lines for lanes with groups; -- @if no groups, -- @else and -- @end likewise

A script gets only those keys of the lane that it names.

Each key costs Redis a thousand instructions a call. So a script with `-- @if` has two forms: `claim` is for
lanes without groups, and `claim:groups` for the others.

`NAME:lanes` runs a script for several lanes of one Redis: see parts/for_each_lane.lua.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

from relay.store.keys import LANE_PARTS
from relay.store.record import HEADER

FOLDER = files("relay.store") / "scripts"

TWO_FORMS = ("claim", "enqueue", "expand", "settle", "settle_targets", "take_one")
"""The scripts on the hot path, which have a form without groups."""

FOR_LANES = ("enqueue_into_flight",)
"""The scripts that may run for several lanes at once."""

_INCLUDE = re.compile(r"^[ ]*-- @include (\w+)\n", re.MULTILINE)
_CONDITION = re.compile(r"^[ ]*-- @(if groups|if no groups|else|end)\n", re.MULTILINE)
_KEY = re.compile(r"^-- @key\??  ?(\w+)(\.\.\.)?", re.MULTILINE)
_CONSTANT = re.compile(r"^[ ]*local ([A-Z][A-Z_0-9]*) = ('[^'\\\n]*'|[0-9.]+)(?: --.*)?\n", re.MULTILINE)
_TOKEN = re.compile(
    r"--[^\n]*"  # a comment
    r"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\""  # a string
    r"|(?<![\w.])(?P<header>(?:\w+_)?header)\.(?P<field>\w+)"
    r"|(?P<count>\#)?(?<![\w.])(?P<name>[A-Z][A-Z_0-9]*)\b(?:\[(?P<index>[^\[\]]*)\])?"
)


@dataclass(frozen=True, slots=True)
class ScriptText:
    """A script. `lane_parts` are the lane's keys that the script expects first, in order."""

    text: str
    lane_parts: tuple[str, ...]
    own_keys: tuple[str, ...]


def assemble(source: str, read_part: Callable[[str], str], *, form: str = "groups") -> ScriptText:
    """Return the final text of a script, in its form with `groups` or in the one with `no groups`."""
    source = _include(_choose(source, form), lambda name: _choose(read_part(name), form), set())
    constants = dict(_CONSTANT.findall(source))
    source = _CONSTANT.sub("", source)
    names = {found["name"] for found in _TOKEN.finditer(source) if found["name"]}
    own = _KEY.findall(source)
    names.difference_update(name for name, _ in own)
    parts = tuple(part for part in LANE_PARTS if lua_name(part) in names)
    keys = _positions(parts)
    for name, many in own:
        keys[name] = _Position(len(parts) + 1 + [other for other, _ in own].index(name), bool(many))
    return ScriptText(
        _TOKEN.sub(lambda found: _resolve(found, keys, constants), source),
        parts,
        tuple(name for name, _ in own),
    )


def read_script(name: str) -> ScriptText:
    """Return the script of this name in the folder. If it has two forms, NAME:groups is the other one.

    NAME:lanes runs it for several lanes.
    """
    file, _, form = name.partition(":")
    if form == "lanes":
        one = read_script(file)
        return replace(one, text=_read_part("for_each_lane").replace("-- @script\n", one.text))
    source = (FOLDER / f"{file}.lua").read_text("utf-8")
    return assemble(source, _read_part, form=form or ("no groups" if file in TWO_FORMS else "groups"))


def _choose(source: str, form: str) -> str:
    """Drop the lines for the other form."""
    text, *rest = _CONDITION.split(source)
    chosen, condition = [text], ""
    for mark, lines in zip(rest[::2], rest[1::2], strict=True):
        if mark == "else":
            condition = "if groups" if condition == "if no groups" else "if no groups"
        else:
            condition = "" if mark == "end" else mark
        if not condition or condition == f"if {form}":
            chosen.append(lines)
    return "".join(chosen)


def lua_name(part: str) -> str:
    """Return the name of a lane's key in the scripts: `fan-outs:high` is one of FAN_OUTS."""
    return _group(part).upper().replace("-", "_").replace(":", "_")


def _group(part: str) -> str:
    group, _, level = part.rpartition(":")
    return group if level in ("high", "normal", "low") else part


@dataclass(frozen=True, slots=True)
class _Position:
    """The position of a key in KEYS; with `many`, that of the first."""

    first: int
    many: bool


def _positions(parts: tuple[str, ...]) -> dict[str, _Position]:
    positions: dict[str, _Position] = {}
    for place, part in enumerate(parts, 1):
        positions.setdefault(lua_name(part), _Position(place, _group(part) != part))
    return positions


def _include(source: str, read_part: Callable[[str], str], known: set[str]) -> str:
    """Insert each part once, before its first use. A part in an indented block is visible in that block
    only."""
    lines: list[str] = []
    scopes = [(0, known)]
    for line in source.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith(("end", "else")):
            scopes = [scope for scope in scopes if scope[0] <= indent]
        found = _INCLUDE.match(line)
        if found is None:
            lines.append(line)
            continue
        if indent > scopes[-1][0]:
            scopes.append((indent, set(scopes[-1][1])))
        scope = scopes[-1][1]
        if found[1] not in scope:
            scope.add(found[1])
            lines.append(_include(read_part(found[1]), read_part, scope) + "\n")
    return "".join(lines)


def _read_part(name: str) -> str:
    return (FOLDER / "parts" / f"{name}.lua").read_text("utf-8")


def _resolve(found: re.Match[str], keys: Mapping[str, _Position], constants: Mapping[str, str]) -> str:
    if found["header"]:
        return f"{found['header']}[{HEADER.index(found['field']) + 1}]"
    name, index, count = found["name"], found["index"], found["count"] or ""
    if name is None:
        return found[0]
    if name in constants:
        value = constants[name]
    elif name in keys and keys[name].many:
        before = keys[name].first - 1
        if count:
            return f"(#KEYS - {before})"
        if index is None:
            raise ValueError(f"{name} is a list of keys: write {name}[index]")
        return f"KEYS[{before} + {_names_in(index, keys, constants)}]"
    elif name in keys:
        value = f"KEYS[{keys[name].first}]"
    else:
        value = name
    if index is None:
        return count + value
    return f"{count}{value}[{_names_in(index, keys, constants)}]"


def _names_in(index: str, keys: Mapping[str, _Position], constants: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda found: _resolve(found, keys, constants), index)
