"""Logs on standard error: colours on a terminal, one JSON object a line elsewhere.

Foreign text can neither split a line nor add escape sequences. Configured secrets are replaced by `***`:
in relay's own lines, in tracebacks, and in lines of libraries.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import structlog

from relay.logs.writer import LineLogger, LogWriter
from relay.text import Redactor, printable

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


EXIT_TIMEOUT = 2.0
"""Seconds to wait at the end of the process until all lines are written."""


def configure(
    level: str = "info",
    style: str = "auto",
    secrets: Iterable[str] = (),
    *,
    writer: LogWriter | None = None,
) -> None:
    """Set up structlog for the process. `style` is auto, console or json; `secrets` as in `hide`.

    With a `writer`, standard error can neither stop nor block the process. Use one in processes that run for
    months.
    """
    hide(secrets)
    is_terminal = sys.stderr.isatty()
    if style == "auto":
        style = "console" if is_terminal else "json"
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
            fit_for_a_terminal,
            structlog.dev.ConsoleRenderer(
                colors=is_terminal, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        renderers = [structlog.processors.JSONRenderer()]
    _process.writer = writer
    if writer is not None:
        sys.stderr = writer.as_text()
        atexit.register(writer.flush, EXIT_TIMEOUT)
    structlog.configure(
        processors=[_contained([*shared, *renderers])],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # One write for each line: several processes share standard error.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr)
        if writer is None
        else partial(_line_logger, writer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Foreign()], level=max(logging.WARNING, LEVELS[level]), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def background_writer() -> LogWriter:
    """A writer for `configure`. After dropping lines, it logs their number."""
    return LogWriter(on_recovery=_report_dropped)


def flush() -> None:
    """Write all lines logged so far. Call it before the process ends itself."""
    if _process.writer is not None:
        _process.writer.flush(EXIT_TIMEOUT)


def dropped() -> int:
    """Return the number of lines that could not be written."""
    return _process.writer.dropped if _process.writer is not None else 0


def hide(secrets: Iterable[str]) -> None:
    """Replace these texts by `***` in every later line."""
    _process.redactor = Redactor(secrets)


class _Process:
    """State of all loggers. Their processors never change, but the secrets to hide change with the file."""

    redactor = Redactor()
    writer: LogWriter | None = None


_process = _Process()


def _line_logger(writer: LogWriter, *_: object) -> LineLogger:
    return LineLogger(writer)


def _report_dropped(lines: int) -> None:
    structlog.get_logger().warning("log lines were dropped; standard error was blocked", lines=lines)


def _contained(processors: Sequence[structlog.typing.Processor]) -> structlog.typing.Processor:
    """Combine all processors into one that never raises: logging a value without text must not fail."""

    def render(logger: Any, name: str, event: structlog.typing.EventDict) -> Any:
        done: Any = event
        try:
            for processor in processors:
                done = processor(logger, name, done)
        except structlog.DropEvent:
            raise
        except Exception as error:
            text = printable(_process.redactor.text(str(event.get("event"))))
            return json.dumps({"event": text, "level": name, "error": f"no details: {type(error).__name__}"})
        return done

    return render


def _redacted(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    redactor = _process.redactor
    return {name: _each(value, redactor.text) for name, value in event.items()}


def fit_for_a_terminal(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    exception = event.pop("exception", None)
    safe = {printable(str(name)): _each(value, printable) for name, value in event.items()}
    if exception is not None:
        # Indented, so that none of its lines looks like a log line.
        safe["exception"] = "\n".join(f"    {printable(line)}" for line in str(exception).split("\n"))
    return safe


def _each(value: Any, change: Any) -> Any:
    """Return the value with all of its texts changed."""
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
    """Logs lines of libraries (`logging`) through structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # a wrong format string of a library
            said = str(record.msg)
        log.log(record.levelno, said, library=record.name, exc_info=record.exc_info or None)


def _uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is not SystemExit and failed.exc_value is not None:
        structlog.get_logger().error("a thread failed; this is a bug", exc_info=failed.exc_value)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        structlog.get_logger().critical("relay failed; this is a bug", exc_info=(kind, error, trace))
