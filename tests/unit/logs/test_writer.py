"""Standard error may be full, closed or blocked: lines are dropped and counted, and nothing else happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.logs.writer import LogWriter

SECONDS = 20.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def fill(descriptor: int) -> int:
    """Write until a pipe takes no more; how many bytes."""
    os.set_blocking(descriptor, False)
    written = 0
    try:
        while True:
            written += os.write(descriptor, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return written


def test_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), most=1_000_000)
        for number in range(5000):
            writer.write(b"line %d\n" % number)
        writer.flush(SECONDS)
    assert (tmp_path / "log").read_text().splitlines() == [f"line {number}" for number in range(5000)]
    assert writer.dropped == 0


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with Path("/dev/full").open("wb") as full:
        writer = LogWriter(full.fileno())
        for _ in range(3):
            writer.write(b"lost\n")
        writer.flush(SECONDS)
        assert writer.dropped == 3


def test_a_pipe_whose_reader_has_left_costs_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LogWriter(pipe[1])
    writer.write(b"lost\n")
    writer.flush(SECONDS)
    assert writer.dropped == 1


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_without_a_reader_blocks_no_writer(pipe: tuple[int, int], blocking: bool) -> None:
    told: list[int] = []
    over = threading.Event()

    def recovered(lines: int) -> None:
        told.append(lines)
        over.set()

    waiting = fill(pipe[1])
    os.set_blocking(pipe[1], blocking)
    writer = LogWriter(pipe[1], most=10, on_recovery=recovered)
    for number in range(30):
        writer.write(b"line %d\n" % number)
    writer.flush(0.01)
    # One of them may be on its way already.
    assert 19 <= writer.dropped <= 21
    while waiting > 0:
        waiting -= len(os.read(pipe[0], waiting))
    assert over.wait(SECONDS)
    assert told == [writer.dropped]
    writer.flush(SECONDS)
    text = os.read(pipe[0], 65536)
    kept = 30 - writer.dropped
    assert text.splitlines()[:kept] == [b"line %d" % number for number in range(kept)]


def test_a_line_after_a_torn_one_begins_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full in the middle of a line."""
    write, full = os.write, [False, True]

    def torn(descriptor: int, data: bytes) -> int:
        if full and full.pop(0):
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:5] if full else data)

    with (tmp_path / "log").open("wb") as file:
        monkeypatch.setattr(os, "write", torn)
        writer = LogWriter(file.fileno())
        writer.write(b"a long line\n")
        writer.write(b"the next\n")
        writer.flush(SECONDS)
    assert (tmp_path / "log").read_text() == "a lon\nthe next\n"
    assert writer.dropped == 1


def test_a_stream_over_it_takes_prints(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno())
        print("a warning of a library", "\udc80", file=writer.as_text())
        writer.flush(SECONDS)
    assert (tmp_path / "log").read_text() == "a warning of a library \\udc80\n"
