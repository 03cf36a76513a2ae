"""Changes the text of scripts during a test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from relay.store.scripting import script


@contextmanager
def changed_script(name: str, old: str, new: str) -> Iterator[None]:
    """Inside, each `old` in the script is replaced by `new`."""
    loaded = script(name)
    text, digest = loaded.text, loaded.digest
    assert old in text, f"{name} has no {old!r}"
    loaded.text = text.replace(old, new)
    loaded.digest = hashlib.sha1(loaded.text.encode(), usedforsecurity=False).hexdigest()
    try:
        yield
    finally:
        loaded.text, loaded.digest = text, digest
