"""Check a configuration that an operator pastes, without reading the files and variables of this host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from relay.errors import ConfigError
from relay.provider import AdapterOptions, discover
from relay.settings.load import loads
from relay.settings.snapshot import SecretFiles

PASTED = "pasted.yaml"

STAND_IN = "stand-in-of-a-secret-0123456789"
"""The value of every variable and secret file: real ones would show in errors."""


class _Variables(Mapping[str, str]):
    """Variables that are all set."""

    def __getitem__(self, name: str) -> str:
        return STAND_IN

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Files(SecretFiles):
    """Secret files that all exist."""

    def read(self, path: Path, longest: int) -> bytes:
        return STAND_IN.encode()


async def check_text(text: str) -> list[str]:
    """Return the mistakes in the text of a configuration file, one line each."""
    return await asyncio.to_thread(_check, text)


def _check(text: str) -> list[str]:
    try:
        loads(text, PASTED, AdapterOptions(discover()), _Variables(), _Files())
    except ConfigError as error:
        return list(error.problems)
    return []
