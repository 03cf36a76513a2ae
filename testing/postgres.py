"""A real PostgreSQL in a folder of its own, on a unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pwd import getpwnam

OWNER = "postgres"


def binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`, if this machine has them."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in candidates if (path / "initdb").exists()), None)


@dataclass(frozen=True)
class Postgres:
    """A running server with a fresh database at `url`."""

    url: str
    control: tuple[str | Path, ...]
    """The `pg_ctl` command for this server."""
    options: tuple[str | Path, ...]
    """Options of the start."""

    def crash(self) -> None:
        """Stop without a clean shutdown; committed data is kept."""
        _run(*self.control, "-m", "immediate", "stop")

    def start(self) -> None:
        _run(*self.control, *self.options, "start")


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Run a fresh server. `folder` holds the binaries."""
    # Not below pytest's folder, which only root may enter, because this server refuses to run as root.
    home = Path(tempfile.mkdtemp(prefix="relay-postgres-"))
    prefix: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(home, OWNER, getpwnam(OWNER).pw_gid)
        prefix = ["setpriv", f"--reuid={OWNER}", f"--regid={getpwnam(OWNER).pw_gid}", "--clear-groups"]
    data = home / "data"
    create: list[str | Path] = [
        *prefix,
        folder / "initdb",
        "-D",
        data,
        "-U",
        OWNER,
        "-A",
        "trust",
        "--no-sync",
    ]
    _run(*create, "--locale=C", "--encoding=UTF8")
    settings = ["-c", f"unix_socket_directories={home}", "-c", "listen_addresses=", "-c", "fsync=off"]
    server = Postgres(
        f"postgresql:///postgres?host={home}&user={OWNER}",
        (*prefix, folder / "pg_ctl", "-D", data, "-w", "-t", "60"),
        ("-l", home / "log", "-o", " ".join(settings)),
    )
    try:
        server.start()
        yield server
    finally:
        server.crash()
        shutil.rmtree(home, ignore_errors=True)


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
