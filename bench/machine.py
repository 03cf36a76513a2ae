"""Where figures come from: the machine, and the versions of what ran on it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.producers import PEERS


def facts() -> dict[str, str]:
    """One line of text for each."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{os.cpu_count()} × {model[1] if model else platform.machine()}",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "load before": load(),
    }


def load() -> str:
    """Processes that would run, over the last minute: more than the cores, and figures are noise."""
    return f"{os.getloadavg()[0]:.1f}"


def versions() -> dict[str, str]:
    """Of relay and of each peer's pinned packages, and of the languages that they run on."""
    found = {"relay": version("relay-push"), "redis-py": version("redis"), "aiohttp": version("aiohttp")}
    found |= {"node": _said("node", "--version"), "ruby": _said("ruby", "--version")}
    found |= {"sidekiq": _said("sidekiq", "--version")}
    found |= json.loads((PEERS / "package.json").read_text())["dependencies"]
    for file in sorted(PEERS.glob("*/requirements.txt")):
        found[file.parent.name] = ", ".join(file.read_text().split())
    return found


def _said(*command: str) -> str:
    """The first number that a program gives as its version; empty where there is no such program."""
    if shutil.which(command[0]) is None:
        return ""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    numbers = re.search(r"\d+(\.\d+)+", said.stdout)
    return numbers[0] if numbers else ""
