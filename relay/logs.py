"""Logs on standard error: colours on a terminal, one JSON object a line elsewhere.

Whatever a message or a provider says, a line stays one line, no escape sequence reaches a terminal, and
configured secrets are left out: of our own lines, of tracebacks, and of what libraries log.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import structlog

from relay.settings.redaction import Redactor, printable

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str = "info", style: str = "auto", secrets: Iterable[str] = ()) -> None:
    """Set up structlog for the process. `style` is auto, console or json; `secrets` as in `hide`."""
    hide(secrets)
    if style == "auto":
        style = "console" if sys.stderr.isatty() else "json"
    # No local variables in tracebacks: they hold secrets.
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    if style == "console":
        renderers: list[structlog.typing.Processor] = [
            _fit_for_a_terminal,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        renderers = [structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # One write for each line: several processes share standard error.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Foreign()], level=max(logging.WARNING, LEVELS[level]), force=True)
    sys.excepthook = _uncaught


def dropped() -> int:
    """How many lines could not be written."""
    return 0


def hide(secrets: Iterable[str]) -> None:
    """From now on these texts are `***` in every line."""
    _hidden.redactor = Redactor(secrets)


class _Hidden:
    """Loggers keep their processors for good; what these hide changes with the file."""

    redactor = Redactor()


_hidden = _Hidden()


def _redacted(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    redactor = _hidden.redactor
    return {name: _each(value, redactor.text) for name, value in event.items()}


def _fit_for_a_terminal(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    exception = event.pop("exception", None)
    safe = {printable(str(name)): _each(value, printable) for name, value in event.items()}
    if exception is not None:
        # Indented, so that none of its lines can be taken for one of ours.
        safe["exception"] = "\n".join(f"    {printable(line)}" for line in str(exception).split("\n"))
    return safe


def _each(value: Any, change: Any) -> Any:
    """The value with all texts in it changed."""
    match value:
        case str():
            return change(value)
        case bytes():
            return change(value.decode("utf-8", "backslashreplace"))
        case bool() | int() | float() | None:
            return value
        case dict():
            return {str(_each(key, change)): _each(entry, change) for key, entry in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_each(entry, change) for entry in value]
    return change(str(value))


class _Foreign(logging.Handler):
    """What libraries say through `logging`, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # a wrong format must not end what it was about
            said = str(record.msg)
        log.log(record.levelno, said, library=record.name, exc_info=record.exc_info or None)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        structlog.get_logger().critical("relay failed; this is a bug", exc_info=(kind, error, trace))
