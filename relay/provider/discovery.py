"""Finds adapters by the entry-point group `relay.providers`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from relay.errors import UsageError
from relay.provider.base import Provider
from relay.settings.options import ProviderOptions

ENTRY_POINTS = "relay.providers"

AdapterType = type[Provider[ProviderOptions]]


class Adapters(Mapping[str, AdapterType]):
    """The installed adapters by type name. Each is imported at its first look-up.

    A look-up raises UsageError if the adapter cannot be imported or is not a `Provider`. Listing and testing
    names imports nothing.
    """

    def __init__(self, entries: Iterable[EntryPoint]) -> None:
        self._entries = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}

    def __getitem__(self, name: str) -> AdapterType:
        entry = self._entries[name]
        try:
            adapter = entry.load()
        except (Exception, SystemExit) as error:  # a package may raise anything while it is imported
            raise UsageError(
                f"the adapter {name!r} ({self.package(name)}, {entry.value}) cannot be imported: "
                f"{type(error).__name__}: {error}; reinstall that package, or repair it"
            ) from error
        if not (isinstance(adapter, type) and issubclass(adapter, Provider)):
            raise UsageError(
                f"the adapter {name!r} ({self.package(name)}, {entry.value}) is not a subclass of "
                "relay.provider.Provider"
            )
        return adapter

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def broken(self) -> dict[str, UsageError]:
        """Return the adapters that cannot be used, each with the reason. Imports all of them."""
        found = {}
        for name in self:
            try:
                self[name]
            except UsageError as error:
                found[name] = error
        return found

    def package(self, name: str) -> str:
        """Return name and version of the package of an adapter."""
        dist = self._entries[name].dist
        return f"{dist.name} {dist.version}" if dist else "unknown package"


class AdapterOptions(Mapping[str, type[ProviderOptions]]):
    """The options of each adapter by type name; a look-up imports the adapter."""

    def __init__(self, adapters: Mapping[str, AdapterType]) -> None:
        self._adapters = adapters

    def __getitem__(self, name: str) -> type[ProviderOptions]:
        return self._adapters[name].Options

    def __contains__(self, name: object) -> bool:
        return name in self._adapters

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)


def discover() -> Adapters:
    """Return all adapters, built in and installed. Nothing is imported yet."""
    return Adapters(entry_points(group=ENTRY_POINTS))
