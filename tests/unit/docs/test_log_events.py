"""The reference of log events lists exactly the events that the code logs, with their levels and fields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/log-events.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LIBRARY_LINES = ROOT / "relay/logs/__init__.py"
"""Passes on the log lines of libraries, which have their own texts."""

_FIELDS = {"of": "about"}
"""The argument of `RedisTrouble.log` that has another name in the log."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class LogCall:
    """One call that logs, as the source has it."""

    event: str
    level: str
    fields: frozenset[str]
    where: str


class Source:
    """One module, and the log calls in it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._tree = ast.parse(text)
        self._inside: dict[ast.AST, Function] = {}
        for function in ast.walk(self._tree):
            if isinstance(function, Function):
                # Inner functions come later and overwrite the outer ones.
                self._inside.update(dict.fromkeys(ast.walk(function), function))

    def calls(self) -> Iterator[LogCall]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                logged = self._logged(ast.unparse(node.func.value), node.func.attr, node.args)
                if logged is None:
                    continue
                level, event = logged
                where = f"{self.path}:{node.lineno}"
                words = {word.arg for word in node.keywords if word.arg} - {"exc_info"}
                fields = frozenset(_FIELDS.get(word, word) for word in words)
                for one in self._texts(event, where):
                    for its_level in [level] if isinstance(level, str) else self._texts(level, where):
                        name = "error" if its_level == "exception" else its_level
                        yield LogCall(one, name, fields, where)

    def _logged(
        self, receiver: str, method: str, args: list[ast.expr]
    ) -> tuple[str | ast.expr, ast.expr] | None:
        """The level and the event of a call, or None if it does not log."""
        match receiver, method:
            case "logger" | "log" | "self._log" | "structlog.get_logger()", level if level in LEVELS:
                return level, args[0]
            case "redis_trouble", "log":
                return "warning", args[0]
            case "thinned", "log":
                return args[0], args[1]
            case "logger" | "log" | "self._log", "log" | "msg" if self.path != LIBRARY_LINES:
                raise AssertionError(f"{self.path}: {receiver}.{method}(): log by level")
            case _, level if level in LEVELS and args and _is_prose(args[0]):
                raise AssertionError(
                    f"{self.path}: {receiver}.{method}(): call it `logger`, so that it is found"
                )
        return None

    def _texts(self, expression: ast.expr, where: str) -> list[str]:
        """The possible texts of an expression: a literal, a constant, or the arguments of callers."""
        match expression:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.Name(id=name):
                function = self._inside.get(expression)
                found = _assigned(ast.walk(function), name) if function else []
                found = found or _assigned(self._tree.body, name)
                if not found and function:
                    found = self._passed(function, name, where)
                if found:
                    return found
        raise AssertionError(f"{where}: an event is a constant text; what varies is a field")

    def _passed(self, function: Function, parameter: str, where: str) -> list[str]:
        names = [arg.arg for arg in function.args.args if arg.arg != "self"]
        if parameter not in names:
            return []
        index = names.index(parameter)
        return [
            text
            for call in ast.walk(self._tree)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute | ast.Name)
            and function.name == (call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id)
            for text in self._texts(call.args[index], where)
        ]


def _is_prose(expression: ast.expr) -> bool:
    match expression:
        case ast.Constant(value=str(text)):
            return " " in text
    return isinstance(expression, ast.JoinedStr)


def _assigned(nodes: Iterable[ast.AST], name: str) -> list[str]:
    return [
        node.value.value
        for node in nodes
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target) == name
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


def logged() -> list[LogCall]:
    """All log calls of relay and its adapters."""
    paths = sorted(path for package in ("relay", "providers") for path in (ROOT / package).rglob("*.py"))
    return [call for path in paths for call in Source(path, path.read_text()).calls()]


def listed() -> list[LogCall]:
    """The rows of the page's tables."""
    rows = []
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line.startswith("| `"):
            quoted, level, fields, when, action = (cell.strip() for cell in line.strip("|").split("|"))
            event = re.sub(r"^(`+) ?(.+?) ?\1$", r"\2", quoted)
            assert when, f"{PAGE}:{number}: when?"
            assert action, f"{PAGE}:{number}: what to do?"
            names = frozenset(name.strip("` ") for name in fields.split(","))
            rows.append(LogCall(event, level, names, f"{PAGE}:{number}"))
    return rows


def test_a_page_lists_each_log_event_once() -> None:
    events = [row.event for row in listed()]
    assert len(events) == len(set(events))
    code = {call.event for call in logged()}
    assert code - set(events) == set(), "logged, but not in docs/reference/log-events.md"
    assert set(events) - code == set(), "in docs/reference/log-events.md, but not logged"


def test_a_listed_event_has_the_level_and_the_fields_of_the_code() -> None:
    rows = {row.event: row for row in listed()}
    for call in logged():
        row = rows[call.event]
        assert row.level == call.level, call.where
        assert call.fields <= row.fields, call.where


@pytest.mark.parametrize(
    "source",
    [
        "logger.info(f'{number} messages')",
        "logger.info('a' + str(number))",
        "def report(text):\n    logger.info(text)",
    ],
)
def test_an_event_that_varies_is_refused(source: str) -> None:
    with pytest.raises(AssertionError, match="an event is a constant text"):
        list(Source(Path("module.py"), source).calls())


def test_an_event_that_a_caller_passes_on_is_found() -> None:
    source = "def report(self, event):\n    thinned.log('error', event, 'a')\n\nself.report('it failed')"
    found = [(call.event, call.level) for call in Source(Path("module.py"), source).calls()]
    assert found == [("it failed", "error")]


def test_a_logger_of_another_name_is_refused() -> None:
    with pytest.raises(AssertionError, match="call it `logger`"):
        list(Source(Path("module.py"), "trace.warning('the lane holds')").calls())
