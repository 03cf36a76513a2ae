"""`python -m release check` checks all that a release needs; `lists` writes pinned versions and licences."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from release import contents, fresh, lists
from release.artifacts import ROOT, Artifacts, build, digest, version_problem
from release.interpreters import interpreters

OUT = ROOT / "build" / "release"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("action", choices=["check", "lists"])
    action = parser.parse_args().action
    try:
        with tempfile.TemporaryDirectory() as scratch:
            (check if action == "check" else refresh)(Path(scratch))
    except RuntimeError as error:
        sys.exit(str(error))


def check(scratch: Path) -> None:
    """Build a release into build/release and check all of it."""
    if problem := version_problem((ROOT / "CHANGELOG.md").read_text()):
        raise RuntimeError(problem)
    shutil.rmtree(OUT, ignore_errors=True)
    built = build(OUT)
    verify(built, scratch)
    install_plainly(built, scratch)
    tested = install_everywhere(built, scratch)
    lists.write_bill_of_materials(tested, OUT / f"{built.wheel.name.removesuffix('.whl')}.cdx.json")
    for pins in (fresh.PINS, fresh.PLAIN_PINS):
        shutil.copy(pins, OUT)
    (OUT / "SHA256SUMS").write_text(built.checksums())
    print(built.checksums(), end="")


def verify(built: Artifacts, scratch: Path) -> None:
    """Check the two files without installing them."""
    if found := list(contents.problems(built)):
        raise RuntimeError("\n".join(found))
    print(
        fresh.run(sys.executable, "-m", "twine", "check", "--strict", str(built.wheel), str(built.sdist)),
        end="",
    )
    # In another folder, from the source distribution: neither path nor dates of files may matter.
    fresh.run("tar", "--extract", "--touch", "--file", str(built.sdist), "--directory", str(scratch))
    (unpacked,) = scratch.iterdir()
    again = build(scratch / "again", unpacked)
    for one, other in ((built.wheel, again.wheel), (built.sdist, again.sdist)):
        if digest(one) != digest(other):
            raise RuntimeError(f"{one.name}: a second build, of the source distribution, has other bytes")
    print("a second build has the same bytes")


def install_everywhere(built: Artifacts, scratch: Path) -> Path:
    """Install the wheel for each Python that is here, and run the demo. Returns one that has all extras."""
    last = None
    for version, python in interpreters().items():
        if python is None:
            print(f"Python {version}: not on this machine, so not tried")
            continue
        folder = scratch / f"python{version}"
        last = fresh.environment(python, folder)
        fresh.install_pinned(last, built.wheel, fresh.PINS)
        print(f"Python {version}: relay demo --seconds 5\n{fresh.demonstrate(last, folder)}", end="")
    if last is None:
        raise RuntimeError("no supported version of Python is on this machine")
    return last


def install_plainly(built: Artifacts, scratch: Path) -> None:
    """Install the wheel without extras, and check a configuration with it."""
    python = fresh.environment(Path(sys.executable), scratch / "plain")
    fresh.install_pinned(python, built.wheel, fresh.PLAIN_PINS)
    fresh.validate(python, scratch)
    print("an installation without extras works")


def refresh(scratch: Path) -> None:
    """Write the pinned versions and the page of licences."""
    lists.write_pins()
    built = build(scratch / "built")
    python = fresh.environment(Path(sys.executable), scratch / "environment")
    fresh.install_pinned(python, built.wheel, fresh.PINS)
    lists.write_licences(python)


if __name__ == "__main__":
    main()
