"""YAML text → tree. Only data comes out, of a bounded size, and every problem has its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping as Environment

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node as YamlNode, ScalarNode, SequenceNode

from relay.settings.environment import UndefinedVariable, hide, show, substitute
from relay.settings.tree import Entry, Location, Mapping, Node, Position, Problems, Scalar, Sequence
from relay.settings.words import quote

MAX_SOURCE = 1024 * 1024
"""Bytes of a file."""

MAX_NODES = 100_000
"""Values in a file, those that aliases repeat included."""

MAX_DEPTH = 50
"""Levels of nesting, those that aliases add included."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_START = Position(1, 1)


def parse(source: str, env: Environment[str, str], problems: Problems) -> Node | None:
    """The tree of one YAML document, references filled from `env`.

    None where there is no document to speak of; `problems` then says why.
    """
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        problems.add(_START, (), f"the file is larger than {MAX_SOURCE // 1024} KiB")
        return None
    try:
        root = _compose(source)
        if root is None:
            problems.add(_START, (), "the file is empty; config.example.yaml shows every key")
            return None
        return _Builder(env, problems).build(root, ())
    except _Unreadable as error:
        problems.add(error.position, (), str(error))
        return None


class _Unreadable(Exception):
    """The document cannot be read on from here."""

    def __init__(self, position: Position, text: str) -> None:
        super().__init__(text)
        self.position = position


class _Composer(yaml.SafeLoader):
    """The safe loader, up to its nodes; bounded, and it remembers which tags were written."""

    def __init__(self, source: str) -> None:
        self.depth = 0
        self.tagged: set[YamlNode] = set()
        super().__init__(source)

    def compose_node(self, parent: YamlNode | None, index: YamlNode | int | None) -> YamlNode | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _too_deep(_position(self.peek_event().start_mark))
        written = getattr(self.peek_event(), "tag", None)
        node: YamlNode | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        if node is not None and written not in (None, "!"):
            self.tagged.add(node)
        return node


def _compose(source: str) -> _Composed | None:
    composer: _Composer | None = None
    try:
        composer = _Composer(hide(source))
        root = composer.get_single_node()
    except yaml.reader.ReaderError as error:
        raise _Unreadable(*_illegal_character(source, error)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Unreadable(_position(mark), _syntax(error)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as the escape "\UFFFFFFFF"
        position = _position(composer.get_mark()) if composer else _START  # type: ignore[no-untyped-call]
        raise _Unreadable(position, "not valid YAML: an escape that is no character") from error
    return None if root is None else _Composed(root, frozenset(composer.tagged))
