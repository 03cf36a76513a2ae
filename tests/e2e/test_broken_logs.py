"""Log lines that nobody takes stop no worker, and log lines that repeat themselves thin out."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.relay_process import RELAY, environment
from testing.site import Site


def no_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def nobody_reads() -> int:
    """A pipe that is full; its reading end stays open as long as this process."""
    _, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    return writer


@pytest.mark.parametrize(
    ("broken", "processes"), [("full disk", "2"), ("no reader", "2"), ("nobody reads", "2"), ("closed", "1")]
)
async def test_logs_without_a_reader_stop_nothing_and_change_no_exit_code(
    site: Site, broken: str, processes: str
) -> None:
    site.configure({"hook": site.webhook()}, processes=int(processes))
    outputs: dict[str, Callable[[], int]] = {
        "full disk": lambda: os.open("/dev/full", os.O_WRONLY),
        "no reader": no_reader,
        "nobody reads": nobody_reads,
        "closed": lambda: os.open(os.devnull, os.O_WRONLY),
    }
    descriptor = outputs[broken]()
    command = f"exec {RELAY} run -c {site.config}" + (" >&- 2>&-" if broken == "closed" else "")
    process = await asyncio.create_subprocess_shell(
        command, stdout=descriptor, stderr=descriptor, env=environment()
    )
    os.close(descriptor)
    for number in range(20):
        # Each malformed element has something to say.
        await site.push("{", {"payload": {"body": {"n": number}}})
    await site.receiver.until(20)
    assert process.returncode is None
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(120):
        assert await process.wait() == 0
    assert await site.redis.keys("relay:*:inflight:*") == []


@pytest.mark.parametrize("words", [["run", "-c", "nothing.yaml"], ["check", "-c", "nothing.yaml"]])
async def test_an_error_that_cannot_be_printed_keeps_its_exit_code(tmp_path: Path, words: list[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        RELAY, *words, stdout=full, stderr=full, env=environment(), cwd=tmp_path
    )
    os.close(full)
    assert await process.wait() == 2
