"""Logs on standard error: colours on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str = "info", style: str = "auto") -> None:
    """Set up structlog for the process. `style` is auto, console or json."""
    if style == "auto":
        style = "console" if sys.stderr.isatty() else "json"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "console":
        renderers: list[structlog.typing.Processor] = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # No local variables: they hold secrets.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # One write for each line: several processes share standard error.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
