"""A real browser for tests of pages: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

AXE_VERSION = "4.10.3"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser with a fresh profile. Skips the test if there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed (apt install chromium; .ci/run does it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def axe() -> str:
    """Return the source of axe-core, which finds faults of accessibility. Skips the test if it is missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relay-tests"
    file = cache / f"axe-core-{AXE_VERSION}.js"
    if not file.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed (apt install npm; .ci/run does it)")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            install = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
            done = subprocess.run(
                [*install, "--prefix", folder, f"axe-core@{AXE_VERSION}"],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if done.returncode:
                pytest.skip(f"npm cannot install axe-core: {done.stderr.strip()[-300:]}")
            (Path(folder) / "node_modules" / "axe-core" / "axe.min.js").replace(file)
    return file.read_text()
