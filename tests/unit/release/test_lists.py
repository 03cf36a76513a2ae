"""The lists that come with a release agree with pyproject.toml and the changelog."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import relay
from release.artifacts import ROOT, latest_release, version_problem
from release.fresh import PINS, PLAIN_PINS
from release.interpreters import VERSIONS
from release.lists import LICENCES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OPTIONAL = [text for extra in EXTRAS["all"] for name in Requirement(extra).extras for text in EXTRAS[name]]


def pinned(path: Path) -> dict[str, list[str]]:
    """The versions of each library. Several, if one version fits not every Python."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^ ;]+)", path.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(version)
    return found


@pytest.mark.parametrize(
    ("pins", "requirements"),
    [(PLAIN_PINS, PROJECT["dependencies"]), (PINS, [*PROJECT["dependencies"], *OPTIONAL])],
    ids=["plain", "all"],
)
def test_each_library_is_pinned_to_a_version_that_the_project_allows(
    pins: Path, requirements: list[str]
) -> None:
    versions = pinned(pins)
    for text in requirements:
        requirement = Requirement(text)
        for version in versions[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(version), f"make release-lists: {text}, pinned {version}"


@pytest.mark.parametrize("pins", [PLAIN_PINS, PINS], ids=["plain", "all"])
def test_each_pin_has_hashes_and_no_address(pins: Path) -> None:
    text = pins.read_text()
    assert "//" not in text
    for entry in re.split(r"\n(?=\S)", text):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def test_both_files_pin_the_same_versions() -> None:
    every = pinned(PINS)
    assert pinned(PLAIN_PINS).items() <= every.items()


def test_the_page_of_licences_has_every_library_with_one() -> None:
    rows = dict(re.findall(r"^\| (\S+) \| (.+) \|$", LICENCES.read_text(), re.MULTILINE))
    listed = {canonicalize_name(name): licence for name, licence in rows.items() if name != "library"}
    needed = set()
    for text in [*PROJECT["dependencies"], *OPTIONAL]:
        name = canonicalize_name(Requirement(text).name)
        needed |= {name, *(canonicalize_name(Requirement(inner).name) for inner in _always(name))}
    assert needed <= set(listed) | {"async-timeout"}
    assert "UNKNOWN" not in listed.values()
    # None that would oblige a user of relay to publish code: pycurl also offers MIT.
    assert {name for name, licence in listed.items() if "GPL" in licence} == {"pycurl"}


def _always(name: str) -> list[str]:
    """The requirements that a distribution has without an extra, on this platform."""
    return [
        text
        for text in requires(name) or ()
        if (marker := Requirement(text).marker) is None or marker.evaluate({"extra": ""})
    ]


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/relay/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (relay.__version__, relay.__version__)


def test_the_version_is_the_newest_of_the_changelog() -> None:
    assert version_problem((ROOT / "CHANGELOG.md").read_text()) == ""
    assert "CHANGELOG.md is 9.0.0" in version_problem("## 9.0.0 - 2030-01-01\n## 0.1.0 - 2026-01-01\n")
    with pytest.raises(ValueError, match="no heading"):
        latest_release("## Unreleased\n")


def test_the_package_names_the_pythons_that_a_release_is_tried_with() -> None:
    prefix = "Programming Language :: Python :: "
    assert [text.removeprefix(prefix) for text in PROJECT["classifiers"] if text.startswith(prefix)] == list(
        VERSIONS
    )
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"
