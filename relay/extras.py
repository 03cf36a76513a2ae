"""Optional parts of an installation: the extras of pyproject.toml."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed(module: str) -> bool:
    """Return whether a module can be imported. Only the packages around the module are imported."""
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'relay-push[{extra}]'"
