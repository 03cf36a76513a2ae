"""The reference of the commands, made from their functions.

Signatures stay the same over versions of typer; its parsers do not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import typer
from typer.models import ArgumentInfo, OptionInfo
from typer.utils import get_params_from_function

from relay.cli.app import COMMANDS, root
from relay.settings.reference import split_default
from testing.reference.markdown import code, table

HEAD = ("argument or option", "value", "default", "meaning")
_KINDS = {int: "whole number", float: "number", str: "text", Path: "path", bool: ""}


@dataclass(frozen=True)
class Parameter:
    """An argument or an option of a command."""

    name: str
    kind: type
    info: ArgumentInfo | OptionInfo

    @property
    def is_required(self) -> bool:
        return self.info.default is ...

    @property
    def placeholder(self) -> str:
        """The value in a usage line; empty for a switch."""
        if self.info.metavar:
            return self.info.metavar
        if issubclass(self.kind, Enum):
            return "|".join(str(choice.value) for choice in self.kind)
        if isinstance(self.info, ArgumentInfo):
            return self.name.upper()
        return {int: "N", float: "N", str: "TEXT", Path: "PATH", bool: ""}[self.kind]

    @property
    def spellings(self) -> list[str]:
        """The names with the placeholder, the longest name first."""
        if isinstance(self.info, ArgumentInfo):
            return [self.placeholder]
        options = self.info.param_decls or (f"--{self.name.replace('_', '-')}",)
        return [f"{option} {self.placeholder}".rstrip() for option in sorted(options, key=len, reverse=True)]

    @property
    def value(self) -> str:
        if issubclass(self.kind, Enum):
            return " or ".join(code(str(choice.value)) for choice in self.kind)
        noun, least, most = _KINDS[self.kind], self.info.min, self.info.max
        if least is not None and most is not None:
            return f"{noun} from {least} to {most}"
        return noun if least is None else f"{noun} ≥ {least}"


def all_commands() -> str:
    """A section for each command, those of a group behind the group."""
    return "\n".join(["## `relay`\n", table(HEAD, map(_row, parameters(root))), *_commands()])


def _commands() -> Iterator[str]:
    for name, entry in COMMANDS.items():
        found = getattr(import_module(f"relay.cli.{entry.module}"), entry.attribute)
        section = _group if isinstance(found, typer.Typer) else _command
        yield from section(f"relay {name}", found)


def _group(path: str, group: typer.Typer) -> Iterator[str]:
    yield f"## `{path}`\n"
    yield f"{group.info.help}\n"
    for command in group.registered_commands:
        assert command.callback is not None
        yield from _command(f"{path} {command.name or command.callback.__name__}", command.callback)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _group(f"{path} {inner.name}", inner.typer_instance)


def _command(path: str, function: Callable[..., object]) -> Iterator[str]:
    found = list(parameters(function))
    yield f"## `{path}`\n"
    yield f"{inspect.getdoc(function)}\n"
    yield f"```console\n$ {' '.join([path, *map(_usage, found)])}\n```\n"
    yield table(HEAD, map(_row, found))


def parameters(function: Callable[..., object]) -> Iterator[Parameter]:
    """The arguments and options of a command."""
    for name, found in get_params_from_function(function).items():
        if isinstance(found.default, ArgumentInfo | OptionInfo):
            yield Parameter(name, _kind(found.annotation), found.default)


def _kind(annotation: Any) -> type:
    """The type of one value: `str` for `list[str] | None`, an option that may be repeated."""
    options = (annotation,) if get_origin(annotation) is list else get_args(annotation) or (annotation,)
    (found,) = [part for part in options if part is not NoneType]
    if get_origin(found) is list:
        (found,) = get_args(found)
    assert isinstance(found, type)
    return found


def _usage(parameter: Parameter) -> str:
    text = parameter.spellings[0]
    return text if parameter.is_required else f"[{text}]"


def _row(parameter: Parameter) -> tuple[str, ...]:
    meaning, default = split_default(parameter.info.help or "")
    if parameter.is_required:
        default = "required"
    elif not default and parameter.info.default not in (None, False, ""):
        default = code(str(getattr(parameter.info.default, "value", parameter.info.default)))
    return ", ".join(map(code, parameter.spellings)), parameter.value, default, meaning
