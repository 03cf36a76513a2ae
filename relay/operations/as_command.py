"""A message as a `relay push` command, for a shell. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Literal

from relay.message import PRIORITIES, Message
from relay.text import printable_json

LONGEST = 100_000
"""Characters of a command: a shell takes no longer argument than 128 KiB."""


def push_command(
    message: Message,
    provider: str,
    payload: Mapping[str, Any],
    form: Literal["envelope", "bare"] = "envelope",
) -> str:
    """Return the command that pushes a new message like this one; empty if it would be too long.

    `payload` is that of the message, without secrets. The id and the times of the message are left out: a
    copy is a message of its own, which is sent immediately.
    """
    element: Mapping[str, Any] = payload
    if form == "envelope":
        element = {"payload": payload, "provider": provider, "priority": PRIORITIES[message.priority]}
        for name in ("group", "ordering_key", "collapse_key", "reply_to", "traceparent"):
            if value := getattr(message, name):
                element = {**element, name: value}
    text = printable_json(json.dumps(element, ensure_ascii=False))
    # A queue whose name begins with a dash is no option.
    words = ["relay", "push", *(["--"] if message.queue.startswith("-") else []), message.queue, text]
    command = " ".join(map(shell_word, words))
    return command if len(command) <= LONGEST else ""


def shell_word(text: str) -> str:
    """Return a text as one word for a shell. Characters that control a terminal become escapes."""
    if text.isprintable():
        return shlex.quote(text)
    # $'…' of bash, zsh, ksh and POSIX.1-2024.
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    encoded = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\{byte:03o}" for byte in encoded)
