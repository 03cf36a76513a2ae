"""The pages' samples in programming languages, each with the lines that a page takes for granted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from testing.node_packages import node_packages


@dataclass(frozen=True)
class Language:
    """`around` is the program, with PORT and SAMPLE. `words()` are those that run it, before its text."""

    around: str
    words: Callable[[], list[str]]
    folder: Callable[[], Path | None] = lambda: None


class Missing(Exception):
    """This machine has no interpreter or no client library."""


def _php() -> list[str]:
    found = shutil.which("php")
    modules = (
        subprocess.run([found, "-m"], capture_output=True, text=True, check=True).stdout if found else ""
    )
    if found is None or "\nredis\n" not in modules:
        raise Missing("PHP and its Redis extension are not installed (apt install php-cli php-redis)")
    return [found, "-r"]


def _ruby() -> list[str]:
    found = shutil.which("ruby")
    if found is None or subprocess.run([found, "-e", "require 'redis'"], check=False).returncode:
        raise Missing("Ruby and its Redis client are not installed (apt install ruby-redis)")
    return [found, "-e"]


LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        "import json\nimport redis\nMODULE_OR_CLIENT\nlast, show = '0', print\nSAMPLE",
        lambda: [sys.executable, "-c"],
    ),
    "js": Language(
        'import { createClient } from "redis";\n'
        'const redis = await createClient({url: "redis://127.0.0.1:PORT"}).connect();\n'
        "SAMPLE\nredis.destroy();",
        lambda: ["node", "--input-type=module", "-e"],
        node_packages,
    ),
    "php": Language("$redis = new Redis(); $redis->connect('127.0.0.1', PORT);\nSAMPLE", _php),
    "ruby": Language("require 'redis'\nrequire 'json'\nREDIS = redis = Redis.new(port: PORT)\nSAMPLE", _ruby),
}
"""Go has no interpreter, and would have to download its client for each run."""


def program(language: str, sample: str, port: int) -> tuple[list[str], Path | None]:
    """Return the words that run the sample against a Redis, and the folder. Raises Missing."""
    found = LANGUAGES[language]
    sample = sample.replace("redis.Redis()", f"redis.Redis(port={port})")
    client = "" if "redis.Redis(" in sample else f"redis = redis.Redis(port={port})"
    text = found.around.replace("MODULE_OR_CLIENT", client).replace("PORT", str(port))
    text = text.replace("SAMPLE", sample)
    return [*found.words(), text], found.folder()
