"""`relay providers`: the installed adapters with their options."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from relay.cli import common
from relay.errors import UsageError
from relay.provider import AdapterType, discover
from relay.settings.options import ProviderOptions
from relay.text import printable


def providers(
    name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Only this adapter.")] = None,
    as_json: common.JsonOption = False,
) -> None:
    """List the built-in and installed adapters with their options.

    Example: `relay providers webhook`
    """
    adapters = discover()
    if name is not None and name not in adapters:
        raise UsageError(f"no adapter {name!r}; there are {', '.join(adapters)}")
    broken = adapters.broken()
    chosen = [key for key in adapters if name in (None, key)]
    if as_json:
        documents = {
            key: {"package": adapters.package(key)}
            | ({"error": str(broken[key])} if key in broken else _data(adapters[key]))
            for key in chosen
        }
        typer.echo(common.as_json(documents))
        return
    for key in chosen:
        common.data.print(f"[bold]{key}[/]  [dim]{adapters.package(key)}[/]")
        if key in broken:
            common.data.print(printable(f"  {broken[key]}"), style="red", markup=False, highlight=False)
        else:
            _print(adapters[key])
    if name is None:
        common.data.print(
            "\n[dim]Every adapter also takes the common options: rate, burst, concurrency, timeout, retry, …"
        )
        common.data.print("[dim](config.example.yaml shows all of them with their defaults)")


def _own_options(adapter: AdapterType) -> dict[str, FieldInfo]:
    return {
        name: field
        for name, field in adapter.Options.model_fields.items()
        if name not in ProviderOptions.model_fields
    }


def _summary(adapter: AdapterType) -> str:
    return (inspect.getdoc(adapter) or "").partition("\n")[0]


def _data(adapter: AdapterType) -> dict[str, Any]:
    schema = adapter.Options.model_json_schema()
    return {
        "summary": _summary(adapter),
        "class": f"{adapter.__module__}:{adapter.__qualname__}",
        "options": {key: schema["properties"].get(key, {}) for key in _own_options(adapter)},
    }


def _print(adapter: AdapterType) -> None:
    common.data.print(f"  {_summary(adapter)}", markup=False, highlight=False)
    for key, field in _own_options(adapter).items():
        default = (
            "required" if field.is_required() else f"default {field.get_default(call_default_factory=True)}"
        )
        common.data.print(
            f"    {key:<16} {field.description or ''} ({default})", markup=False, highlight=False
        )
