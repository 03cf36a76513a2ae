"""A log line stays one line, obeys nobody, and names no secret."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from relay import logs

SECRET = "hunter2-marker"
FORGED = "a\r\n2026-11-21T08:00:00Z [info] all is well \x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe"
BARE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
"""Control characters that a terminal obeys, except for line ends."""


@pytest.fixture(params=["json", "console"])
def output(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error of a process that logs in this form."""
    written = io.StringIO()
    hook, thread_hook, root = sys.excepthook, threading.excepthook, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure("info", request.param, [SECRET])
    yield written
    structlog.reset_defaults()
    sys.excepthook, threading.excepthook = hook, thread_hook
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def fail(text: str) -> None:
    local = SECRET
    assert local
    raise ValueError(text)


def test_a_line_cannot_be_forged(output: io.StringIO) -> None:
    structlog.get_logger().warning(FORGED, reason=FORGED, ids=[FORGED], held={FORGED: FORGED}, raw=b"\x1b[2J")
    text = output.getvalue()
    assert text.count("\n") == 1
    assert not BARE.search(text)


def test_a_traceback_is_distinct_from_other_lines(output: io.StringIO) -> None:
    try:
        fail(FORGED)
    except ValueError:
        structlog.get_logger().exception("the adapter failed", ids=["a"])
    lines = output.getvalue().splitlines()
    assert "the adapter failed" in lines[0]
    assert "ValueError" in output.getvalue()
    # A second line there is on a console only, and it is indented.
    assert all(line.startswith("    ") or not line for line in lines[1:])
    assert not BARE.search(output.getvalue())


def test_no_secret_is_in_a_line_nor_in_a_traceback(output: io.StringIO) -> None:
    try:
        fail(f"401 for {SECRET}")
    except ValueError:
        structlog.get_logger().exception(f"with {SECRET}", header=f"Bearer {SECRET}", ids=[{SECRET: SECRET}])
    assert "***" in output.getvalue()
    assert SECRET not in output.getvalue()


def test_secrets_of_a_reloaded_file_are_hidden_too(output: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info("one", word="newer-secret")
    logs.hide([SECRET, "newer-secret"])
    log.info("two", word="newer-secret")
    first, second = output.getvalue().splitlines()
    assert "newer-secret" in first
    assert "newer-secret" not in second


def test_libraries_speak_in_our_form(output: io.StringIO) -> None:
    try:
        fail(SECRET)
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error %s", FORGED)
    logging.getLogger("asyncio").error("not retrieved: %s", SECRET)
    logging.getLogger("chatty").info("not worth a line")
    text = output.getvalue()
    assert "aiohttp.server" in text
    assert "not worth" not in text
    assert SECRET not in text
    assert not BARE.search(text)


def test_a_library_that_formats_wrongly_ends_nothing(output: io.StringIO) -> None:
    record = logging.LogRecord("wrong", logging.ERROR, "", 0, "%d", ("no number",), None)
    logging.getLogger().handlers[0].handle(record)
    assert "wrong" in output.getvalue()


class Unprintable:
    """An object of a third-party adapter."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def test_a_value_that_cannot_be_shown_ends_nothing(output: io.StringIO) -> None:
    around: list[object] = []
    around.append(around)
    structlog.get_logger().warning(f"first {SECRET}", ids=[Unprintable()])
    structlog.get_logger().warning("second", ids=around)
    first, second = output.getvalue().splitlines()
    assert "first ***" in first
    assert "second" in second


def test_a_failed_thread_and_a_warning_are_logged_in_our_format(output: io.StringIO) -> None:
    thread = threading.Thread(target=fail, args=[SECRET])
    thread.start()
    thread.join()
    warnings.warn(f"old: {SECRET}", stacklevel=1)
    assert "a thread failed" in output.getvalue()
    assert "old: ***" in output.getvalue()
    assert SECRET not in output.getvalue()


def test_an_uncaught_exception_is_one_entry_without_secrets(output: io.StringIO) -> None:
    try:
        fail(f"{SECRET} {FORGED}")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    text = output.getvalue()
    assert "this is a bug" in text
    assert SECRET not in text
    assert not BARE.search(text)


def test_a_task_that_fails_unseen_is_logged_in_our_format(output: io.StringIO) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": f"broken: {SECRET}"})

    asyncio.run(main())
    assert "broken: ***" in output.getvalue()


@given(st.text(), st.text())
def test_any_text_is_one_line_of_json_or_of_a_terminal(event: str, value: str) -> None:
    entry = logs.fit_for_a_terminal(None, "", {"event": event, "value": [value], "exception": value})
    for text in (entry["event"], *entry["value"], *entry["exception"].split("\n")):
        assert text.isprintable()


def test_text_in_json_stays_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger().info("said", text=FORGED)
    structlog.reset_defaults()
    assert json.loads(capsys.readouterr().err)["text"] == FORGED
