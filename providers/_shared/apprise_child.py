"""The process that calls Apprise: this module, started with `python -m`.

`apprise_process` starts it. The first line of input is the `Start`, each further line a `Call`; each line of
output is an `Answer`. The process ends with its input, even if a call hangs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Literal

import msgspec

from .apprise_url import plugin_of

if TYPE_CHECKING:
    from apprise import NotifyBase

_PR_SET_PDEATHSIG = 1


class Start(msgspec.Struct):
    """The first request to the process. `timeout` is in seconds, for connecting and reading together."""

    url: str
    timeout: float
    threads: int


class Call(msgspec.Struct):
    """One notification."""

    number: int
    body: str
    title: str
    type: Literal["info", "success", "warning", "failure"]
    format: Literal["text", "markdown", "html"] | None


class Answer(msgspec.Struct):
    """The result of a call, with its log lines. Number 0: the process is ready."""

    number: int
    delivered: bool = False
    lines: list[str] = []


def main() -> None:
    # If a call hangs in C, this process does not notice the end of its input.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = _take_over_output()
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
    plugin = plugin_of(start.url, start.timeout)
    lock = threading.Lock()

    def say(answer: Answer) -> None:
        with lock:
            output.write(msgspec.json.encode(answer) + b"\n")
            output.flush()

    say(Answer(0))
    pool = ThreadPoolExecutor(start.threads)
    for line in sys.stdin.buffer:
        pool.submit(lambda call: say(_notify(plugin, call)), msgspec.json.decode(line, type=Call))
    os._exit(0)


def _take_over_output() -> BinaryIO:
    """Reserve standard output for the answers, because libraries may print."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


def _notify(plugin: NotifyBase, call: Call) -> Answer:
    from apprise import Apprise as Library

    library = Library()
    library.add(plugin)
    try:
        result = library.notify(
            call.body,
            call.title,
            notify_type=call.type,
            body_format=call.format,
            interpret_escapes=False,
        )
    except Exception as error:  # any plugin may raise, and the caller waits for an answer
        return Answer(call.number, lines=[f"{type(error).__name__}: {error}"])
    return Answer(call.number, bool(result), [entry.message for entry in result.logs()])


if __name__ == "__main__":
    main()
