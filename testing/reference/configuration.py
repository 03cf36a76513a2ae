"""The reference of the configuration file, and the tables of options on the pages of providers."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points

from pydantic import BaseModel

from relay.provider import AdapterType, discover
from relay.provider.discovery import ENTRY_POINTS
from relay.settings.http import HttpOptions
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.settings.reference import Key, keys_of
from testing.reference.markdown import code, table

HEAD = ("key", "type", "default", "meaning")


def built_in() -> dict[str, AdapterType]:
    """The adapters of this repository by their type."""
    adapters = discover()
    ours = entry_points(group=ENTRY_POINTS)
    return {entry.name: adapters[entry.name] for entry in ours if entry.value.startswith("providers.")}


def all_keys() -> str:
    """Every section of the file, each with a table of its keys."""
    keys = list(keys_of(Settings))
    sections = [key for key in keys if "mapping" in key.kind and "." not in key.path]
    parts = ["## Top level\n", options(key for key in keys if "." not in key.path)]
    for section in sections:
        if section.path == "providers":
            parts += _providers(section)
        else:
            inner = [key for key in keys if key.path.startswith((f"{section.path}.", f"{section.path}[]."))]
            parts += [f"## `{section.path}`\n", f"{section.meaning}\n", options(inner)]
    return "\n".join(parts)


def _providers(section: Key) -> Iterable[str]:
    yield f"## `{section.path}`\n"
    yield f"{section.meaning} The keys below are those of one entry, `providers.NAME`.\n"
    yield "### Every provider\n"
    yield every_provider()
    yield "### Providers over HTTP\n"
    yield f"{_types_over_http()} also take these.\n"
    yield over_http()
    for name, adapter in built_in().items():
        yield f"### `type: {name}`\n"
        also = " and of providers over HTTP" if issubclass(adapter.Options, HttpOptions) else ""
        yield f"In addition to the keys of every provider{also}. See [{name}](providers/{name}.md).\n"
        yield own_options(adapter)


def _types_over_http() -> str:
    *most, last = (code(name) for name, kind in built_in().items() if issubclass(kind.Options, HttpOptions))
    return f"{', '.join(most)} and {last}"


def every_provider() -> str:
    return options(keys_of(ProviderOptions))


def over_http() -> str:
    return options(_added_to(ProviderOptions, HttpOptions))


def own_options(adapter: AdapterType) -> str:
    """The options that only this adapter has, or that it shares with few others."""
    return options(_added_to(HttpOptions, adapter.Options))


def _added_to(base: type[BaseModel], model: type[BaseModel]) -> Iterable[Key]:
    return (key for key in keys_of(model) if key.path.partition(".")[0] not in base.model_fields)


def options(keys: Iterable[Key]) -> str:
    return table(HEAD, map(_row, keys))


def _row(key: Key) -> tuple[str, ...]:
    example = f" For example {code(key.example)}." if key.example else ""
    return code(key.path), key.kind, _default(key), key.meaning + example


def _default(key: Key) -> str:
    if key.is_required:
        return "required"
    return code(key.default) if key.default else key.default_in_words
