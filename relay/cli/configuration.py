"""The configuration file of a running process: read at the start and at each SIGHUP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from relay.errors import ConfigError
from relay.provider import AdapterOptions, discover
from relay.provider.configured import configured
from relay.settings.load import Adapters, load_with_snapshot
from relay.settings.models import Settings
from relay.settings.snapshot import Snapshot
from relay.store.deployment import ReloadFailure

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, and the text of all files that were read for it."""

    settings: Settings
    snapshot: Snapshot


class ConfigurationFile:
    """The file at `path`. A bad file is logged, and never replaces a good configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answered = ""
        """The last request of an operator that the last reload answers."""
        self.was_signalled = False
        """Whether the last reload answers a signal."""
        self._is_signalled = False
        self._request = ""
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def load(self) -> Loaded:
        """Read the file. Raises ConfigError with all of its mistakes."""
        return Loaded(*load_with_snapshot(self.path, adapters()))

    def notify(self, request: str = "") -> None:
        """Make `reloads` read the file again. `request` is that of an operator; empty for a signal."""
        self._request = request or self._request
        self._is_signalled |= not request
        self._changed.set()
        self._idle.clear()

    async def idle(self) -> None:
        """Wait until every requested reload is in force."""
        await self._idle.wait()

    async def reloads(self) -> AsyncIterator[Loaded | ReloadFailure]:
        """Yield the result of each reload, forever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            request, signalled = self._request, self._is_signalled
            self._is_signalled = False
            # A slow disk must not block the event loop.
            try:
                result = await asyncio.to_thread(self._try_to_load)
            except RuntimeError as error:  # no memory for a thread
                result = ConfigError([f"{self.path}: {error}"])
            # In the thread of the event loop, as in a worker.
            if isinstance(result, Loaded):
                result = self._try_to_build(result)
            self.answered, self.was_signalled = request, signalled
            yield result if isinstance(result, Loaded) else _failure(result)
            # Logged after the reader has the result. `ready` follows once a worker runs with it.
            if isinstance(result, Loaded):
                logger.info("the file was read again")
            else:
                logger.error("the file is wrong: the old configuration stays", problems=result.problems)
            if not self._changed.is_set():
                self._idle.set()

    def _try_to_load(self) -> Loaded | ConfigError:
        try:
            return self.load()
        except ConfigError as error:
            return error
        except (OSError, MemoryError) as error:  # of this process: no adapter is to blame
            reason = getattr(error, "strerror", None) or "no memory is left"
            return ConfigError(
                [f"{self.path}: cannot be read now: {reason}; reload again once there is room"]
            )
        except Exception as error:  # a bug of an adapter must not end the process
            logger.exception("the file cannot be checked")
            return ConfigError([f"{self.path}: {type(error).__name__}: {error}"])

    def _try_to_build(self, loaded: Loaded) -> Loaded | ConfigError:
        """Return `loaded`, or an error if an adapter refuses its options: no worker could use them."""
        try:
            configured(loaded.settings)
        except Exception as error:  # an adapter may raise anything
            return ConfigError([f"{self.path}: {type(error).__name__}: {error}"])
        return loaded


def _failure(error: ConfigError) -> ReloadFailure:
    return ReloadFailure(error.problems[0], len(error.problems) - 1, time.time())


def adapters() -> Adapters:
    """Return the options of each installed adapter. A look-up imports the adapter."""
    return AdapterOptions(discover())
