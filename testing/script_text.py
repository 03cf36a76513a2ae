"""Changes the text of scripts during a test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from relay.store.script_text import TWO_FORMS
from relay.store.scripting import script


@contextmanager
def changed_script(name: str, old: str, new: str) -> Iterator[None]:
    """Inside, each `old` in the script, in all its forms, is replaced by `new`."""
    names = [name, f"{name}:groups"] if name in TWO_FORMS else [name]
    before = [(loaded, loaded.text, loaded.digest) for loaded in map(script, names)]
    for loaded, text, _ in before:
        assert old in text, f"{loaded.name} has no {old!r}"
        loaded.text = text.replace(old, new)
        loaded.digest = hashlib.sha1(loaded.text.encode(), usedforsecurity=False).hexdigest()
    try:
        yield
    finally:
        for loaded, text, digest in before:
            loaded.text, loaded.digest = text, digest
