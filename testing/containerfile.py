"""Carries out a Containerfile in folders, for machines without a container engine.

`python -m testing.containerfile ROOT`, as root: ROOT is a Debian made by debootstrap, with `python` and a
Redis server in it, instead of the base image. Each stage is a copy of ROOT. Afterwards the image's command
runs in the last stage as the image's user, on a read-only root: `relay --version` and `relay demo`.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CHROOT = shutil.which("chroot") or "chroot"
FILE = ROOT / "deploy" / "container" / "Containerfile"


@dataclass
class Stage:
    """The instructions from one FROM to the next."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def value(self, instruction: str) -> str:
        """Return the argument of the last such instruction; empty if there is none."""
        return next((text for name, text in reversed(self.steps) if name == instruction), "")

    def environment(self) -> dict[str, str]:
        """Return the variables of ENV and the defaults of ARG."""
        pairs = (
            re.findall(r'(\w+)=("[^"]*"|\S*)', text) for name, text in self.steps if name in ("ENV", "ARG")
        )
        return {name: value.strip('"') for found in pairs for name, value in found}


def parse(text: str) -> list[Stage]:
    """Return the stages of a Containerfile."""
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or str(len(stages))))
        else:
            stages[-1].steps.append((instruction, rest.strip()))
    return stages


def context(folder: Path) -> Iterator[Path]:
    """Yield the files that a build sees: those that .dockerignore does not exclude."""
    rules = [line for line in (folder / ".dockerignore").read_text().splitlines() if line]
    for where, folders, files in os.walk(folder):
        here = Path(where).relative_to(folder)
        # As Docker does, skip an excluded folder unless a rule names something in it.
        folders[:] = sorted(name for name in folders if _may_hold_a_seen_file(here / name, rules))
        yield from (folder / here / name for name in sorted(files) if _is_seen(here / name, rules))


def _is_seen(name: Path, rules: Sequence[str]) -> bool:
    above = [name, *name.parents]
    seen = True
    for rule in rules:
        # Paths begin at the folder; after **/ anywhere.
        pattern = rule.removeprefix("!").removeprefix("**/")
        names = name.parts if "**/" in rule else [each.as_posix() for each in above]
        if any(fnmatch.fnmatch(each, pattern) for each in names):
            seen = rule.startswith("!")
    return seen


def _may_hold_a_seen_file(name: Path, rules: Sequence[str]) -> bool:
    return _is_seen(name, rules) or any(rule.startswith((f"!{name.as_posix()}/", "!**/")) for rule in rules)


def carry_out(stages: Sequence[Stage], root: Path, scratch: Path) -> Path:
    """Carry out all stages. Returns the folder of the last one."""
    folders: dict[str, Path] = {}
    for stage in stages:
        folder = folders[stage.name] = scratch / f"stage-{stage.name}"
        subprocess.run(["cp", "--archive", "--reflink=auto", str(root), str(folder)], check=True)
        where = "/"
        for instruction, text in stage.steps:
            if instruction == "WORKDIR":
                where = text
                (folder / where.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                copy(text, folder, where, folders)
            elif instruction == "RUN":
                chroot(folder, f"cd {where} && {text}", stage.environment())
    return folder


def copy(text: str, folder: Path, where: str, folders: dict[str, Path]) -> None:
    """Carry out COPY, from another stage or from the checkout."""
    *options, source, target = text.split()
    if options:
        stage = folders[options[0].removeprefix("--from=")]
        shutil.copytree(stage / source.lstrip("/"), folder / target.lstrip("/"), symlinks=True)
        return
    for path in context(ROOT):
        copied = folder / where.lstrip("/") / target / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)


def chroot(folder: Path, command: str, environment: dict[str, str]) -> None:
    """Run a shell command in a folder, as root."""
    _run([_CHROOT, str(folder), "/bin/sh", "-ec", command], environment)


def start(folder: Path, words: Sequence[str], stage: Stage) -> str:
    """Run a command as the image's user, on a root that is read-only but for /tmp. Returns its output."""
    environment = {**stage.environment(), "HOME": "/tmp"}
    environment["PATH"] = environment["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
    seal = (
        'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; mount -t tmpfs tmpfs "$0/tmp"; '
        'mount -t proc proc "$0/proc"; cd "$0"; user=$1; shift; exec '
        + _CHROOT
        + ' --userspec="$user" "$0" "$@"'
    )
    unshare = shutil.which("unshare") or "unshare"
    return _run(
        [unshare, "--mount", "/bin/sh", "-ec", seal, str(folder), stage.value("USER"), *words], environment
    )


def _run(words: Sequence[str], environment: dict[str, str]) -> str:
    """Run a command. Returns its output; raises SystemExit with it if the command fails."""
    kept = {name: os.environ[name] for name in ("PATH", "PIP_CERT", "SSL_CERT_FILE") if name in os.environ}
    done = subprocess.run(
        words,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def main() -> None:
    """Execute deploy/container/Containerfile, and try the result."""
    stages = parse(FILE.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        folder = carry_out(stages, Path(sys.argv[1]), Path(scratch))
        command = json.loads(stages[-1].value("ENTRYPOINT"))
        for words in (
            ["--version"],
            ["demo", "--seconds", "5"],
        ):
            print(f"$ {' '.join(command + words)}")
            print(start(folder, [*command, *words], stages[-1]))


if __name__ == "__main__":
    main()
