"""The example of a configuration, and the parts of it that a new file begins with. Pure.

`config.example.yaml` shows every key with its default. A new file has its sections for the chosen types of
providers, with the keys that a user has to decide; the other keys are comments.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import relay
from relay.errors import UsageError

NAME = "config.example.yaml"
PLACEHOLDER = "change-me"
"""A value that the user of the file has to replace."""

_HEADER = """\
# relay's configuration, written by `relay init`. Keys in comments show their default.
#
#   relay check --connect    validates the file, and tries Redis and the providers without sending
#   relay run                starts the workers; SIGHUP makes them read the file again
#   relay schema config      prints the JSON Schema of the file, for your editor
#
"""
_COMMON, _OWN, _CONNECTIONS = "# The options of every provider", "# Pusher Channels", "# Connections"
"""Comments in the block of the first provider, before the options of all types, of its own, and of HTTP."""

_SECTION = re.compile(r"^(?=[a-z_]+:)", re.MULTILINE)
_PROVIDER = re.compile(r"^  (?:# )?([a-z]+): *(?:#.*)?$")
_KEY = re.compile(r"^( +)([a-z_]+):(?= |$)")
RATE = "100/s"
"""The rate of a new provider."""


@dataclass(frozen=True)
class Kind:
    """The keys of a type of provider."""

    keys: Collection[str]
    """All keys that it takes."""
    without_default: Collection[str]
    """Those that are required, or absent by default."""


def read_example() -> str:
    """Return the example of this version. Raises UsageError if the installation has lost it."""
    # A wheel has the file within the package, a checkout next to the package.
    package = Path(relay.__file__).parent
    for folder in (package, package.parent):
        if (folder / NAME).is_file():
            return (folder / NAME).read_text(encoding="utf-8")
    raise UsageError(f"{NAME} is missing in {package}: reinstall relay")


def types_in(example: str) -> list[str]:
    """Return the types of providers that the example has, in its order."""
    return list(_blocks(example))


def starter(example: str, kinds: Mapping[str, Kind], redis_url: str | None = None) -> str:
    """Return a new configuration with one provider of each of these types, and a queue for the first.

    Raises UsageError if the example has no provider of a type.
    """
    blocks = _blocks(example)
    if unknown := [name for name in kinds if name not in blocks]:
        raise UsageError(
            f"no example of the provider type {unknown[0]!r}; there is one of: {', '.join(blocks)}. "
            f"`relay providers {unknown[0]}` lists the options of an installed adapter"
        )
    head, *sections = _SECTION.split(example)
    parts = [_HEADER + _notation(head)]
    for section in sections:
        name = section.partition(":")[0]
        match name:
            case "redis":
                parts.append(_redis(section, redis_url))
            case "queues":
                parts.append(_queues(section, list(kinds)))
            case "providers":
                parts.append(_providers(section, blocks, kinds))
            case _:
                parts.append(_as_comment(section))
    return "".join(parts)


def _notation(head: str) -> str:
    """Return the paragraph of the example's head about variables, secrets and units."""
    return head[head.index("# ${NAME}") :].replace(
        "# A key that is commented out is absent by default.\n", ""
    )


def _redis(section: str, url: str | None) -> str:
    lines = _with_defaults_as_comments(section.splitlines(keepends=True), {"redis", "url"})
    return "".join(lines if url is None else [_with_value(line, "url", quoted(url)) for line in lines])


def _queues(section: str, providers: Sequence[str]) -> str:
    # The first queue begins with "- ", the others are in one line each.
    lines = [line for line in section.splitlines(keepends=True) if not line.startswith("  - {")]
    if len(providers) > 1:
        lines = [line.replace("    # providers: ", "    providers: ") for line in lines]
    lines = _with_defaults_as_comments(lines, {"queues", "provider", "providers"})
    values = {"provider": providers[0], "providers": f"[{', '.join(providers)}]"}
    for name, value in values.items():
        lines = [_with_value(line, name, value) for line in lines]
    return "".join(lines)


def _providers(section: str, blocks: Mapping[str, list[str]], kinds: Mapping[str, Kind]) -> str:
    first = next(iter(blocks.values()))
    common = [_with_value(line, "rate", RATE) for line in _between(first, _COMMON, _OWN)]
    connections = ["    # Connections:\n", *_between(first, _CONNECTIONS, "")[1:]]
    parts = [section.splitlines(keepends=True)[0]]
    for number, (name, kind) in enumerate(kinds.items()):
        header, type_line = f"  {name}:\n", f"    type: {name}\n"
        own = blocks[name][2:]
        if blocks[name] is first:
            own = _between(first, _OWN, _CONNECTIONS)
        connected = name == next((known for known in kinds if "proxy" in kinds[known].keys), "")
        parts += [
            header if number == 0 else f"\n{header}",
            type_line,
            *_with_defaults_as_comments(own, _to_decide(own, kind)),
            *(_with_defaults_as_comments(common, {"rate"}) if number == 0 else [f"    rate: {RATE}\n"]),
            *(connections if connected else []),
        ]
    return "".join([*parts, "\n"])


def _to_decide(lines: Sequence[str], kind: Kind) -> set[str]:
    """Return the keys in the lines that have no default, or name a file with a secret."""
    found = set()
    for line in lines:
        if key := _KEY.match(line):
            name = key[2]
            if name in kind.without_default or name not in kind.keys or PLACEHOLDER in line:
                found.add(name)
    return found


def _between(lines: Sequence[str], start: str, end: str) -> list[str]:
    """Return the lines from the comment `start` to the comment `end`, or to the last line."""
    at = next(number for number, line in enumerate(lines) if line.strip().startswith(start))
    rest = lines[at:]
    ends = (number for number, line in enumerate(rest) if end and line.strip().startswith(end))
    return list(rest[: next(ends, len(rest))])


def _with_defaults_as_comments(lines: Sequence[str], live: Collection[str]) -> list[str]:
    """Return the lines with each key as a comment, except those in `live`."""
    found = []
    depth: int | None = None
    for line in lines:
        key = _KEY.match(line)
        indent = len(line) - len(line.lstrip(" "))
        if depth is not None and indent <= depth:
            depth = None
        if depth is None and key and key[2] not in live:
            depth = indent
        is_commented = depth is not None and line.strip()
        found.append(_aligned(line, f"{line[:depth]}# {line[depth:]}") if is_commented else line)
    return found


def _with_value(line: str, name: str, value: str) -> str:
    """Return the line with that value, if it has the key `name`."""
    key = _KEY.match(line)
    if not (key and key[2] == name):
        return line
    return _aligned(line, re.sub(r"(?<=: )(\[.*?\]|\S+)", lambda _: value, line, count=1))


def _aligned(before: str, after: str) -> str:
    """Return the line `after` with its comment in the column that it had in `before`, if there is room."""
    found = re.fullmatch(r"( *[^ #].*?) +(# .*)\n", before)
    if found is None:
        return after
    comment = found[2]
    text = after.removesuffix(f"{comment}\n").rstrip()
    return f"{text.ljust(found.start(2) - 1)} {comment}\n"


def _as_comment(section: str) -> str:
    return "".join(f"# {line}" if line.strip() else line for line in section.splitlines(keepends=True))


def _blocks(example: str) -> dict[str, list[str]]:
    """Return the lines of each provider of the example, those in comments without their "# "."""
    found: dict[str, list[str]] = {}
    block: list[str] | None = None
    for line in _provider_lines(example):
        if header := _PROVIDER.match(line):
            block = found[header[1]] = []
        if block is None or not line.strip():
            block = None
        elif _PROVIDER.match(line) or line.startswith(("    ", "  #   ")):
            block.append(re.sub(r"^  # ", "  ", line) if line.startswith("  # ") else line)
        else:
            block = None
    return {name: lines for name, lines in found.items() if len(lines) > 1}


def _provider_lines(example: str) -> Iterator[str]:
    (section,) = [part for part in _SECTION.split(example) if part.startswith("providers:")]
    yield from section.splitlines(keepends=True)[1:]


def quoted(value: str) -> str:
    """Return a text as a YAML scalar."""
    plain = re.fullmatch(r"[A-Za-z0-9./$_~-][^\s#,\[\]{}'\"]*", value) and not value.endswith(":")
    return value if plain else "'" + value.replace("'", "''") + "'"
