"""`relay providers`: the adapters that are here, with their options."""

from __future__ import annotations

import inspect
import json
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from relay.cli import common
from relay.errors import UsageError
from relay.provider import ENTRY_POINTS, Provider, discover
from relay.settings.provider import ProviderOptions


def providers(
    name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Only this adapter.")] = None,
    as_json: common.JsonOption = False,
) -> None:
    """List the adapters, built in and installed, with the options of each.

    Example: `relay providers webhook`
    """
    adapters = discover()
    if name is not None and name not in adapters:
        raise UsageError(f"no adapter {name!r}; there are {', '.join(adapters)}")
    chosen = {key: adapter for key, adapter in adapters.items() if name in (None, key)}
    if as_json:
        typer.echo(json.dumps({key: _data(key, adapter) for key, adapter in chosen.items()}, indent=2))
        return
    for key, adapter in chosen.items():
        _print(key, adapter)
    if name is None:
        common.data.print(
            "\n[dim]All take the options of delivery as well: rate, burst, concurrency, timeout, retry, …"
        )
        common.data.print("[dim](config.example.yaml shows every one with its default)")


def _own_options(adapter: type[Provider[ProviderOptions]]) -> dict[str, FieldInfo]:
    return {
        name: field
        for name, field in adapter.Options.model_fields.items()
        if name not in ProviderOptions.model_fields
    }


def _summary(adapter: type[Provider[ProviderOptions]]) -> str:
    return (inspect.getdoc(adapter) or "").partition("\n")[0]


def _package(name: str) -> str:
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        if entry.dist is not None:
            return f"{entry.dist.name} {entry.dist.version}"
    return ""


def _data(name: str, adapter: type[Provider[ProviderOptions]]) -> dict[str, Any]:
    schema = adapter.Options.model_json_schema()
    return {
        "summary": _summary(adapter),
        "package": _package(name),
        "class": f"{adapter.__module__}:{adapter.__qualname__}",
        "options": {key: schema["properties"].get(key, {}) for key in _own_options(adapter)},
    }


def _print(name: str, adapter: type[Provider[ProviderOptions]]) -> None:
    common.data.print(f"[bold]{name}[/]  [dim]{_package(name)}[/]")
    common.data.print(f"  {_summary(adapter)}", markup=False, highlight=False)
    for key, field in _own_options(adapter).items():
        default = (
            "required" if field.is_required() else f"default {field.get_default(call_default_factory=True)}"
        )
        common.data.print(
            f"    {key:<16} {field.description or ''} ({default})", markup=False, highlight=False
        )
