"""The configuration file of a running process."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from structlog.testing import capture_logs

from relay.cli.configuration import ConfigurationFile
from relay.store.deployment import ReloadFailure


@contextmanager
def few_descriptors(free: int) -> Iterator[None]:
    """Let this process open this number of files in addition."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    numbers = sorted(os.dup(1) for _ in range(free + 1))
    for number in numbers:
        os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (numbers[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_reload_without_descriptors_reports_that_and_blames_no_adapter(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("queues: [{name: q}]\nproviders: {hook: {type: webhook, url: 'http://127.0.0.1:1/'}}\n")
    file = ConfigurationFile(path)
    for free in range(4):
        with capture_logs() as lines:
            file.notify()
            with few_descriptors(free):
                result = await anext(file.reloads())
        assert [line for line in lines if line["event"] == "the file cannot be checked"] == []
        if isinstance(result, ReloadFailure):
            assert "Too many open files" in result.problem
