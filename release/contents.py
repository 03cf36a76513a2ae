"""The files that a wheel and a source distribution must and must not have. Pure, but for reading both."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from release.artifacts import ROOT, Artifacts

_LARGEST = 2 << 20
"""Bytes of a wheel. relay is text."""

_NEEDED_TO_BUILD = (
    "pyproject.toml",
    "hatch_build.py",
    "config.example.yaml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
)


def problems(artifacts: Artifacts) -> Iterator[str]:
    """Yield each mistake in the content of the two files."""
    with zipfile.ZipFile(artifacts.wheel) as archive:
        names = set(archive.namelist())
    yield from _wheel_problems(names)
    if artifacts.wheel.stat().st_size > _LARGEST:
        yield f"{artifacts.wheel.name}: larger than {_LARGEST >> 20} MiB"
    with tarfile.open(artifacts.sdist) as archive:
        packed = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    for name in (*_NEEDED_TO_BUILD, *_sources()):
        if name not in packed:
            yield f"sdist: {name} is missing"
    yield from _strangers("sdist", packed)


def _wheel_problems(names: set[str]) -> Iterator[str]:
    expected = {
        name.replace("providers/", "relay/_providers/", 1) if name.startswith("providers/") else name
        for name in _sources()
    }
    expected |= {"relay/config.example.yaml"}
    for name in sorted(expected - names):
        yield f"wheel: {name} is missing"
    for name in sorted(names - expected):
        if not PurePosixPath(name).parts[0].endswith(".dist-info"):
            yield f"wheel: {name} does not belong there"
    for part in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"):
        if not any(name.endswith(f".dist-info/{part}") for name in names):
            yield f"wheel: its metadata lacks {part}"
    yield from _strangers("wheel", names)


def _sources() -> set[str]:
    """Return the files of the packages in this checkout: modules, scripts, templates and the like."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in ("relay", "providers")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _strangers(kind: str, names: set[str]) -> Iterator[str]:
    for name in sorted(names):
        if "__pycache__" in name or name.endswith((".pyc", ".pem", ".key", ".env", ".aof", ".rdb")):
            yield f"{kind}: {name} does not belong there"
