"""Files with secrets that every user of this host can read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path


def exposed(files: Iterable[Path]) -> list[Path]:
    """Return the files that other users can read.

    Not those on a read-only mount: orchestrators put secrets there with open modes, for one container alone.
    """
    return [path for path in files if _is_exposed(path)]


def _is_exposed(path: Path) -> bool:
    try:
        real = path.resolve(strict=True)
        if os.statvfs(real).f_flag & os.ST_RDONLY or not real.stat().st_mode & stat.S_IROTH:
            return False
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
    except OSError:
        return False
