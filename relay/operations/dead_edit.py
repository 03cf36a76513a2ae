"""Edits one dead letter: the payload of a message, or the whole of a malformed element.

The letter stays unless the edited message is in its lane: one script does both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from relay.errors import UsageError
from relay.operations.dead import DeadScope, pages
from relay.operations.dead_selection import DeadSelection
from relay.operations.dead_work import DeadResult, Intake
from relay.redis_client.client import Client
from relay.store import audit, dead
from relay.store.audit import AuditEntry
from relay.store.dead import DeadLetter, Replayed
from relay.store.fleet import Fleet
from relay.text import quote

if TYPE_CHECKING:
    from relay.store.items import Item


class RevisingIntake(Intake, Protocol):
    """An intake that checks elements, and edited letters."""

    def check(self, queue: str, element: bytes) -> str:
        """Return why a worker or the provider would refuse an element; empty if it would be sent."""

    def revise(self, letter: DeadLetter, text: bytes) -> tuple[str, Item]:
        """Return the provider and the item: `text` is the payload, or the whole of a malformed element.

        Raises MessageError if a worker or the provider would refuse it.
        """


OpenIntake: TypeAlias = Callable[[Client], RevisingIntake]
"""Opens the intake of a configuration, which takes a moment."""


async def read_letter(client: Client, scope: DeadScope, selection: DeadSelection) -> DeadLetter:
    """Return the newest letter that is selected, complete. Raises UsageError if there is none."""
    found: DeadLetter | None = None
    async for page in pages(client, scope, selection):
        for letter in page:
            if found is None or letter.at >= found.at:
                found = letter
    whole = found and await dead.read_complete(client, found)
    if whole is None:
        if selection.letters:
            raise UsageError("this dead letter is gone: it was retried, purged or is too old")
        command = f"relay dead list {selection.name}" if selection.name else "relay dead list"
        wanted = quote(selection.where.id)
        raise UsageError(f"no dead letter with the id {wanted}; `{command}` lists those that exist")
    return whole


def editable(letter: DeadLetter) -> bytes:
    """Return the text to edit: the payload as indented JSON, or a malformed element as it is."""
    if letter.message is None:
        return letter.raw
    return msgspec.json.format(letter.message.payload_json, indent=2) + b"\n"


async def retry_edited(
    client: Client,
    scope: DeadScope,
    letter: DeadLetter,
    text: bytes,
    intake: RevisingIntake,
    *,
    who: str,
    because: str = "",
) -> DeadResult:
    """Send the edited letter instead of the present one. Raises MessageError if the text is not valid."""
    result = DeadResult(matched=1)
    if letter.message is not None:
        text = _compact(text)
    provider, item = intake.revise(letter, text)
    match await intake.lane(provider).replay(item, letter):
        case Replayed.DONE:
            result.done = 1
            result.by_provider[provider] = 1
        case left:
            result.left[left.value] = 1
            return result
    await Fleet(client, scope.prefix).wake([provider])
    why = ": ".join(filter(None, (f"id {letter.id}", because)))
    await audit.record(client, scope.prefix, AuditEntry("edit", who, provider, why=why))
    return result


def _compact(text: bytes) -> bytes:
    """Return JSON without white space, as editors add some; other text as it is, for its error."""
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return text
