"""The options that choose dead letters, the same for several commands of `relay dead`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from relay.operations.dead_filter import parse_filter

_FILTER = {
    "id": typer.Option("--id", help="Only the dead letter with this id, its own or that of its message."),
    "reason": typer.Option("--reason", help="Only dead letters whose reason contains this text."),
    "text": typer.Option(
        "--text", help="Only those with this text in the message, the reason or the answer."
    ),
    "status": typer.Option("--status", help="Only those with this status of the answer: `413`, `5xx`."),
    "group": typer.Option("--group", help="Only messages of this group."),
    "queue": typer.Option("--queue", help="Only messages from this queue."),
    "since": typer.Option("--since", metavar="TIME", help="Not before: RFC 3339, Unix seconds, or `2h` ago."),
    "until": typer.Option("--until", metavar="TIME", help="Not after this time, in the same forms."),
}

_OPTIONS = [
    inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )
    for name, option in _FILTER.items()
]


def takes_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter instead of its argument `where`, which becomes a DeadFilter.

    typer reads options from the signature of a function, and has no declaration for several at once.
    """
    signature = inspect.signature(command, eval_str=True)

    @wraps(command)
    def parsed(**given: Any) -> None:
        where = parse_filter({name: given.pop(name) for name in _FILTER})
        command(**given, where=where)

    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += _OPTIONS if parameter.name == "where" else [parameter]
    parsed.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return parsed
