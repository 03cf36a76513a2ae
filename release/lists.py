"""Lists of the libraries that relay installs: pinned versions, licences, and a bill of materials."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from release.artifacts import ROOT
from release.fresh import PINS, PLAIN_PINS, run
from release.interpreters import VERSIONS

LICENCES = ROOT / "docs" / "reference" / "licences.md"
_BIN = Path(sys.executable).parent

_HEAD = """\
# Licences

relay is under the [MIT licence](../../LICENSE). These are the licences of the libraries that it installs with
[all extras](extras.md), as their packages declare them. `make release-lists` writes this page.

"""


def write_pins() -> None:
    """Write the newest versions that fit, with their hashes, for all supported versions of Python."""
    _compile(PINS, "--upgrade", "--extra", "all")
    _compile(PLAIN_PINS, "--upgrade", "--constraints", str(PINS))


def _compile(path: Path, *options: str) -> None:
    command = ("pip", "compile", "--universal", "--generate-hashes", "--python-version", VERSIONS[0])
    plain = ("--quiet", "--no-annotate", "--no-header", "--no-config")
    source = str(ROOT / "pyproject.toml")
    run(str(_BIN / "uv"), *command, *plain, *options, "--output-file", str(path), source)


def write_licences(python: Path) -> None:
    """Write the page of licences for the libraries that this interpreter has."""
    options = (
        "--from=mixed",
        "--format=json",
        "--no-version",
        "--ignore-packages",
        "relay-push",
        "pip",
    )
    found = json.loads(run(str(_BIN / "pip-licenses"), f"--python={python}", *options))
    rows = [f"| {each['Name']} | {each['License']} |" for each in found]
    LICENCES.write_text(_HEAD + "\n".join(["| library | licence |", "| --- | --- |", *rows]) + "\n")


def write_bill_of_materials(python: Path, path: Path) -> None:
    """Write what this interpreter has as CycloneDX JSON."""
    command = (
        "environment",
        "--pyproject",
        str(ROOT / "pyproject.toml"),
        "--output-reproducible",
        "--of",
        "JSON",
    )
    run(str(_BIN / "cyclonedx-py"), *command, "--output-file", str(path), str(python))
