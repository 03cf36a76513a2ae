"""Conversion of YAML text to a tree of plain data with a bounded size. Every problem has a position."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Environment

from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, ScalarNode, SequenceNode
from yaml.nodes import Node as YamlNode
from yaml.resolver import Resolver

from relay.settings._reader.environment import UndefinedVariableError, show, substitute
from relay.settings._reader.nodes import Entry, Location, Mapping, Node, Problems, Scalar, Sequence
from relay.settings._reader.yaml_loader import (
    MAX_DEPTH,
    START,
    UnreadableError,
    compose,
    position_of,
    too_deep,
)
from relay.text import quote

MAX_SOURCE = 1024 * 1024
"""Bytes of a file."""

MAX_NODES = 100_000
"""Values in a file, including those that aliases repeat."""

MAX_NUMBER = 2**63 - 1
"""The largest whole number. A larger one is a text."""

_PREFIX = "tag:yaml.org,2002:"
_MERGE = _PREFIX + "merge"
_ALLOWED_TAGS = frozenset(_PREFIX + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq"))
_RESOLVER = Resolver()
_CONSTRUCTOR = SafeConstructor()
_CONSTRUCT = {
    _PREFIX + "int": _CONSTRUCTOR.construct_yaml_int,
    _PREFIX + "float": _CONSTRUCTOR.construct_yaml_float,
    _PREFIX + "bool": _CONSTRUCTOR.construct_yaml_bool,
    _PREFIX + "null": _CONSTRUCTOR.construct_yaml_null,
}


def parse(source: str, env: Environment[str, str], problems: Problems) -> Node | None:
    """Return the tree of one YAML document, with references filled from `env`.

    Returns None if there is no document, and adds the reason to `problems`.
    """
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        problems.add(START, (), f"the file is larger than {MAX_SOURCE // 1024} KiB")
        return None
    try:
        composed = compose(source)
        if composed is None:
            problems.add(START, (), "the file is empty; `relay init --all` shows every key")
            return None
        return _Builder(env, problems, composed.tagged).build(composed.root, ())
    except UnreadableError as error:
        problems.add(error.position, (), str(error))
        return None


class _Builder:
    """Converts nodes to a tree. An alias becomes a copy, so that each part has one location."""

    def __init__(self, env: Environment[str, str], problems: Problems, tagged: frozenset[YamlNode]) -> None:
        self._env = env
        self._problems = problems
        self._tagged = tagged
        self._nodes = 0
        self._depth = 0

    def build(self, node: YamlNode, location: Location) -> Node:
        """Return the tree below a node. Raises UnreadableError if it exceeds the limits."""
        position = position_of(node.start_mark)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise UnreadableError(
                position, f"more than {MAX_NODES} values, including those that aliases repeat"
            )
        if self._depth >= MAX_DEPTH:
            raise too_deep(position)
        if node in self._tagged and node.tag not in _ALLOWED_TAGS:
            self._problems.add(position, location, _tag_problem(node.tag))
            return Scalar(position, None, "", broken=True)
        self._depth += 1
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, location)
            if isinstance(node, SequenceNode):
                items = (self.build(item, (*location, index)) for index, item in enumerate(node.value))
                return Sequence(position, list(items))
            assert isinstance(node, ScalarNode)
            return self._scalar(node, location)
        finally:
            self._depth -= 1

    def _mapping(self, node: MappingNode, location: Location) -> Mapping:
        own: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            position = position_of(key_node.start_mark)
            if key_node.tag == _MERGE and key_node.style is None:
                for key, entry in self._merge(value_node, location):
                    merged.setdefault(key, entry)
                continue
            name = self._key(key_node, location)
            if name is None:
                continue
            value = self.build(value_node, (*location, name))
            if name in own:
                first = own[name].key_position.line
                text = f"the key appears twice (first in line {first}); remove one"
                self._problems.add(position, (*location, name), text)
            else:
                own[name] = Entry(position, value)
        return Mapping(position_of(node.start_mark), own | {k: v for k, v in merged.items() if k not in own})

    def _key(self, node: YamlNode, location: Location) -> str | None:
        key = self.build(node, location)
        if not isinstance(key, Scalar):
            self._problems.add(key.position, location, "a key must be text, not a list or a mapping")
            return None
        if key.references:
            self._problems.add(
                key.position, location, f"{key.references[0]}: a key cannot come from a message"
            )
            return None
        return None if key.broken else key.text

    def _merge(self, node: YamlNode, location: Location) -> Iterator[tuple[str, Entry]]:
        several = isinstance(node, SequenceNode)
        for part in node.value if several else [node]:
            tree = self.build(part, location)
            if isinstance(tree, Mapping):
                yield from tree.entries.items()
            else:
                self._problems.add(
                    tree.position, location, "`<<` merges mappings only: write `<<: *anchor` of one"
                )

    def _scalar(self, node: ScalarNode, location: Location) -> Scalar:
        position = position_of(node.start_mark)
        raw = show(node.value)
        plain = node.style is None
        try:
            filled = substitute(raw, self._env)
            text = filled.text
            explicit = node in self._tagged
            tag = node.tag if explicit or not plain else _implicit_tag(text)
            value = _value(text, tag, explicit=explicit)
            return Scalar(
                position,
                value,
                text,
                plain,
                template=filled.template,
                references=filled.references,
                filled=text != raw,
            )
        except UndefinedVariableError as error:
            problem = str(error)
        except _TagMismatchError:
            problem = f"does not match its tag; remove {_tag_name(node.tag)}"
        self._problems.add(position, location, problem)
        return Scalar(position, None, raw, plain, broken=True)


class _TagMismatchError(ValueError):
    pass


def _implicit_tag(text: str) -> str:
    return str(_RESOLVER.resolve(ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]


def _value(text: str, tag: str, *, explicit: bool) -> str | int | float | bool | None:
    construct = _CONSTRUCT.get(tag)
    # In this file 1:30 is not a number of seconds, and 2024-01-01 is not a date.
    if construct is None or (":" in text and not explicit):
        return text
    try:
        value: int | float | bool | None = construct(ScalarNode(tag, text.strip()))
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise OverflowError
    except (ValueError, KeyError, IndexError, OverflowError):  # a lone `0x_`, a number of 5,000 digits
        if explicit:
            raise _TagMismatchError from None
        return text
    return value


def _tag_name(tag: str) -> str:
    return "!!" + tag.removeprefix(_PREFIX)


def _tag_problem(tag: str) -> str:
    # A secret such as `!s3cret` is a tag to YAML, so only tags of Python are shown.
    named = (
        f"the tag {quote(_tag_name(tag))[1:-1]}" if tag.startswith(_PREFIX + "python/") else "a tag (`!…`)"
    )
    return f"{named} is not allowed; quote a text that begins with `!`"
