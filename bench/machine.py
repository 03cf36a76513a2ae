"""The machine, and the versions of all programs of a run."""

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
    """Return facts by name, each as one line of text."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{os.cpu_count()} × {model[1] if model else platform.machine()}",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "load before": load(),
    }


def load() -> str:
    """Return the average number of runnable processes in the last minute. Above the number of cores, figures
    are noise."""
    return f"{os.getloadavg()[0]:.1f}"


def versions() -> dict[str, str]:
    """Return the versions of relay, of the pinned packages of each other system, and of their languages."""
    found = {"relay": version("relay-push"), "redis-py": version("redis"), "aiohttp": version("aiohttp")}
    found |= {"node": _version_of("node", "--version"), "ruby": _version_of("ruby", "--version")}
    found |= {"sidekiq": _version_of("sidekiq", "--version")}
    found |= json.loads((PEERS / "package.json").read_text())["dependencies"]
    found["go"] = _version_of("go", "version")
    for file in sorted(PEERS.glob("*/go.mod")):
        required = re.findall(r"^(?:require)?\s+\S*/(\S+(?:/v\d+)?) v(\S+)$", file.read_text(), re.MULTILINE)
        found[file.parent.name] = ", ".join(f"{name} {number}" for name, number in required)
    for file in sorted(PEERS.glob("*/requirements.txt")):
        found[file.parent.name] = ", ".join(file.read_text().split())
    return found


def _version_of(*command: str) -> str:
    """Return the version that a program prints; empty if it is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    numbers = re.search(r"\d+(\.\d+)+", output.stdout)
    return numbers[0] if numbers else ""
