"""Long-lived processes load no optional parts of libraries that they never use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from relay.imports import without

LOADED = """\
import sys
from relay.cli.app import load
load({command!r})
import relay.engine.worker
print(*sorted({{"rich", "opentelemetry.sdk.metrics"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize("command", ["run", "console"])
def test_a_long_lived_process_loads_neither_rich_nor_the_metrics_of_opentelemetry(command: str) -> None:
    program = LOADED.format(command=command)
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "\n"


def test_a_module_seems_absent_only_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without("this"), pytest.raises(ModuleNotFoundError):
        import_module("this")
    assert import_module("this").s


def test_a_module_that_is_loaded_stays() -> None:
    with without("subprocess"):
        assert import_module("subprocess") is subprocess
    assert sys.modules["subprocess"] is subprocess
