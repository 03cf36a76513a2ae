"""Check a configuration."""

from __future__ import annotations

from typing import Annotated, Final, TypedDict

from msgspec import Meta

from relay.admin.console.api.route import Arguments, Reply, Route
from relay.admin.console.call import Call
from relay.operations.configuration import check_text


class CheckArguments(Arguments, frozen=True, kw_only=True):
    """A configuration file to check. Variables and secret files count as set."""

    text: Annotated[str, Meta(max_length=1024 * 1024, description="The YAML text of the file.")]


class CheckDocument(TypedDict):
    """The mistakes in a file, one line each."""

    valid: bool
    problems: list[str]


async def _check(call: Call, arguments: CheckArguments) -> Reply:
    problems = await check_text(arguments.text)
    return Reply(CheckDocument(valid=not problems, problems=problems))


ROUTES: Final = (
    Route(
        "POST",
        "/configuration/check",
        "Validate the text of a configuration file.",
        "relay check",
        _check,
        CheckArguments,
        answer=CheckDocument,
    ),
)
