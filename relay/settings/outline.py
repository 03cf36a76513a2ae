"""The parts of a configuration that short commands need to find lanes and queues in Redis.

Without pydantic and YAML, which are slow to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from relay.settings.redis_url import read_url_file
from relay.settings.snapshot import Snapshot

if TYPE_CHECKING:
    from relay.settings.models import Settings


class Outline(msgspec.Struct, frozen=True):
    """Names and addresses, without the options of queues and adapters. `snapshot` has all of them."""

    snapshot: Snapshot
    redis_url: str
    redis_url_file: str | None
    prefix: str
    providers: tuple[str, ...]
    queues: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, snapshot: Snapshot) -> Outline:
        file = settings.redis.url_file_path
        return cls(
            snapshot,
            settings.redis.url.get_secret_value(),
            None if file is None else str(file),
            settings.redis.prefix,
            tuple(settings.providers),
            tuple(queue.name for queue in settings.queues),
        )

    @property
    def path(self) -> str:
        """The configuration file."""
        return self.snapshot.path

    def read_url(self) -> str:
        """The current URL of Redis. Raises ValueError if its file holds none."""
        return self.redis_url if self.redis_url_file is None else read_url_file(Path(self.redis_url_file))

    def __repr__(self) -> str:
        return f"Outline({self.path!r})"
