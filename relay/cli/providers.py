"""`relay providers`: the installed adapters with their options."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from relay.cli import common
from relay.errors import UsageError
from relay.provider import AdapterType, discover
from relay.settings.options import ProviderOptions
from relay.settings.reference import Key, keys_of, schemas_of
from relay.text import printable


def providers(
    name: Annotated[str | None, typer.Argument(metavar="TYPE", help="Only this adapter.")] = None,
    as_json: common.JsonOption = False,
) -> None:
    """List the built-in and installed adapters with their options.

    Example: `relay providers webhook`
    """
    adapters = discover()
    if name is not None and name not in adapters:
        raise UsageError(f"no adapter {name!r}; known: {', '.join(adapters)}")
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
            "\n[dim]Every adapter also takes the common options, such as rate, timeout and retry.\n"
            "`relay init --all` writes a file that has all of them with their defaults."
        )


def _summary(adapter: AdapterType) -> str:
    return (inspect.getdoc(adapter) or "").partition("\n")[0]


def _own_keys(adapter: AdapterType) -> list[Key]:
    common_keys = ProviderOptions.model_fields
    return [key for key in keys_of(adapter.Options) if key.path.partition(".")[0] not in common_keys]


def _data(adapter: AdapterType) -> dict[str, Any]:
    properties = schemas_of(adapter.Options)
    return {
        "summary": _summary(adapter),
        "class": f"{adapter.__module__}:{adapter.__qualname__}",
        "options": {
            name: properties.get(name, {})
            for name in adapter.Options.model_fields
            if name not in ProviderOptions.model_fields
        },
    }


def _print(adapter: AdapterType) -> None:
    common.data.print(printable(f"  {_summary(adapter)}"), markup=False, highlight=False)
    own = _own_keys(adapter)
    width = max((len(key.path) for key in own), default=0)
    for key in own:
        line = f"    {key.path:<{width}}  {key.meaning} ({_facts(key)})"
        common.data.print(printable(line), markup=False, highlight=False)


def _facts(key: Key) -> str:
    if key.is_required:
        return f"{key.kind}; required"
    default = key.default or key.default_in_words
    return f"{key.kind}; default: {default}" if default else key.kind
