"""Conversion of YAML source to YAML nodes by the safe loader, with limits and readable errors.

Texts of PyYAML may quote the source, and so a secret, so only its fixed phrases are passed on.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml
from yaml.nodes import Node as YamlNode
from yaml.reader import ReaderError

from relay.settings._reader.environment import hide
from relay.settings._reader.nodes import Position
from relay.text import quote

MAX_DEPTH = 50
"""Levels of nesting, including those that aliases add."""

START = Position(1, 1)

_HINTS = {
    "found undefined alias": "`*` names an anchor that is not there; quote a text that begins with `*`",
    "found duplicate anchor": "the same anchor is set twice; quote a text that begins with `&`",
    "found undefined tag handle": "tags (`!…`) are not allowed; quote a text that begins with `!`",
    "found character '\\t'": "a tab cannot indent; use spaces",
    "found character": "{0}; quote a text that begins with such a character",
    "mapping values are not allowed here": "a `:` is misplaced; check the indentation, or quote the text",
    "could not find expected ':'": "a key without `:`; check the indentation, or quote the text",
    "but found another document": "only one document is allowed; remove `---`",
}


class UnreadableError(Exception):
    """The document cannot be read beyond this position. The text is one line."""

    def __init__(self, position: Position, text: str) -> None:
        super().__init__(text)
        self.position = position


@dataclass(frozen=True, slots=True)
class Composed:
    """The root node, and the nodes with an explicit tag."""

    root: YamlNode
    tagged: frozenset[YamlNode]


class _Composer(yaml.SafeLoader):
    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.depth = 0
        self.tagged: set[YamlNode] = set()

    def compose_node(self, parent: YamlNode | None, index: int) -> YamlNode | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise too_deep(position_of(event.start_mark))
        node = super().compose_node(parent, index)
        self.depth -= 1
        if node is not None and getattr(event, "tag", None) not in (None, "!"):
            self.tagged.add(node)
        return node


def compose(source: str) -> Composed | None:
    """Return the nodes of one document with hidden references (see `environment`), or None if it is empty.

    Raises UnreadableError.
    """
    composer: _Composer | None = None
    try:
        composer = _Composer(hide(source))
        root = composer.get_single_node()
        return None if root is None else Composed(root, frozenset(composer.tagged))
    except ReaderError as error:
        raise _illegal_character(source, error) from None
    except yaml.MarkedYAMLError as error:
        raise UnreadableError(
            position_of(error.problem_mark or error.context_mark), _explain(error)
        ) from None
    except (ValueError, OverflowError):  # the escape "\UFFFFFFFF"
        position = position_of(composer.get_mark()) if composer else START
        raise UnreadableError(position, "not valid YAML: an escape that is not a character") from None


def position_of(mark: yaml.Mark | None) -> Position:
    """Return the position of a PyYAML mark, counted from 1."""
    return Position(mark.line + 1, mark.column + 1) if mark else START


def too_deep(position: Position) -> UnreadableError:
    """Return the error for a document that is nested too deeply or contains itself."""
    return UnreadableError(
        position, f"nested deeper than {MAX_DEPTH} levels (is an alias inside its own anchor?)"
    )


def _explain(error: yaml.MarkedYAMLError) -> str:
    phrases = f"{error.context or ''} {error.problem or ''}"
    for beginning, hint in _HINTS.items():
        if beginning in phrases:
            return f"not valid YAML: {hint.format(error.problem)}"
    return f"not valid YAML: {error.problem or error.context}"


def _illegal_character(source: str, error: ReaderError) -> UnreadableError:
    before = source[: error.position]
    position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
    return UnreadableError(position, f"the character {quote(chr(error.character))} is not allowed in YAML")
