"""A message as a command for a shell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.message import Message
from relay.operations.as_command import LONGEST, push_command
from testing.console_world import HOSTILE
from testing.shell import arguments

QUEUES = ["notifications", f"q {HOSTILE}", "-force", "it's $(id) `id` \\ !! \n\x00"[:-1], "ключ\u202e"]


def test_a_command_pushes_the_same_message_with_any_text() -> None:
    payload: dict[str, Any] = {"text": HOSTILE + "\n'\"$(id)", "list": [1, {"ключ": None}], "x": 1.5}
    for queue in QUEUES:
        message = Message("id-1", queue, b"{}", 0, group=HOSTILE[:40], ordering_key="k")
        command = push_command(message, "hook", payload)
        assert command.isprintable()
        *options, name, text = arguments(command)
        assert options == (["push", "--"] if queue.startswith("-") else ["push"])
        assert name == queue
        assert json.loads(text) == {
            "payload": payload,
            "provider": "hook",
            "priority": "high",
            "group": HOSTILE[:40],
            "ordering_key": "k",
        }


def test_a_bare_queue_gets_the_payload_alone() -> None:
    command = push_command(Message("id-1", "q", b"{}"), "hook", {"a": "it's"}, "bare")
    assert arguments(command) == ["push", "q", '{"a": "it\'s"}']


@pytest.mark.parametrize(("size", "fits"), [(LONGEST // 2, True), (LONGEST, False)])
def test_a_payload_that_no_shell_takes_has_no_command(size: int, fits: bool) -> None:
    command = push_command(Message("id-1", "q", b"{}"), "hook", {"a": "x" * size})
    assert bool(command) is fits
