"""A third-party adapter, installed for the processes of one test and controlled by the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MODULE = '''
import asyncio
import os
import re
import time
from pathlib import Path

from relay.errors import UsageError
from relay.outcome import Delivered
from relay.provider import Provider
from relay.settings.provider import ProviderOptions

BROKEN = Path(os.environ["BROKEN"])
"""As long as this file exists, the messages that it names fail."""


class TroubleOptions(ProviderOptions):
    """The options of `type: trouble`."""

    start: str = ""


class Trouble(Provider[TroubleOptions]):
    """Behaves as its messages demand."""

    Options = TroubleOptions

    def __init__(self, name, options, **keywords):
        super().__init__(name, options, **keywords)
        if options.start == "refuses its options":
            raise ZeroDivisionError("these options")

    async def start(self, transport):
        match self.options.start:
            case "hangs":
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        pass
            case "is wrong":
                raise UsageError("providers.bad: write another option")
            case "fails" if BROKEN.exists():
                raise KeyError("start")

    async def deliver(self, batch):
        match batch[0].payload.get("do"):
            case "block":
                time.sleep(3600)  # the fault: a call that blocks the event loop
            case "compute":
                re.match("(a+)+$", "a" * 40 + "b")
        return [Delivered()]


def sabotage(owner, name, fails=lambda self, *arguments: True):
    """It raises as long as `BROKEN` exists."""
    original = getattr(owner, name)

    def broken(self, *arguments, **keywords):
        if BROKEN.exists() and fails(self, *arguments):
            raise ZeroDivisionError(f"{owner.__name__}.{name}")
        return original(self, *arguments, **keywords)

    setattr(owner, name, broken)
'''

SABOTAGE = """
from relay.engine.forwarder import Forwarder
from relay.engine.recovery import Recovery
from relay.store.fleet import Fleet
from relay.store.lane import Lane
from relay.store.queue import Queue
from relay.engine.watchdog import Watchdog

sabotage(Forwarder, "forward", lambda self, provider: provider == "bad")
sabotage(Fleet, "subscribe")
sabotage(Lane, "claim", lambda self, *rest: self.provider == "bad")
sabotage(Queue, "fetch", lambda self, *rest: self.name == "poison")
sabotage(Recovery, "recover_dead")
sabotage(Watchdog, "check")
"""


def install(folder: Path, more: str = "") -> dict[str, Any]:
    """Return the environment in which `type: trouble` is installed. `more` is additional code for it."""
    site = folder / "site"
    info = site / "relay_trouble-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "relay_trouble.py").write_text(MODULE + more)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: relay-trouble\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[relay.providers]\ntrouble = relay_trouble:Trouble\n")
    broken(folder).touch()
    return {"PYTHONPATH": str(site), "BROKEN": str(broken(folder))}


def broken(folder: Path) -> Path:
    """Return the file that, once removed, ends all faults."""
    return folder / "broken"
