"""The output streams of the command."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, TextIO

import pytest
from typer.testing import CliRunner

from relay.__main__ import _buffered
from relay.cli.app import COMMANDS, app, load


class Pipe(io.RawIOBase):
    """Takes ten bytes at a time, as a pipe does that is nearly full."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.taken += bytes(data[:10])
        return min(len(data), 10)


def unbuffered(pipe: Pipe, encoding: str = "utf-8", errors: str = "strict") -> io.TextIOWrapper:
    """Standard output as PYTHONUNBUFFERED makes it."""
    buffer: Any = pipe
    return io.TextIOWrapper(buffer, encoding, errors, write_through=True)


TEXT = "".join(f"line {number}: größer\n" for number in range(1000))


def test_python_itself_loses_the_rest_that_a_pipe_does_not_take() -> None:
    """The reason for `_buffered`: if this test fails, `_buffered` can be removed."""
    pipe = Pipe()
    unbuffered(pipe).write(TEXT)
    assert pipe.taken == TEXT.encode()[:10]


def test_all_bytes_arrive_through_a_pipe_that_takes_few_at_a_time() -> None:
    pipe = Pipe()
    first = unbuffered(pipe)  # which lives as long as sys.__stdout__ does
    stream = _buffered(first)
    stream.write(TEXT)
    # Each line immediately, as logs are followed.
    assert pipe.taken == TEXT.encode()
    stream.write("the rest")
    stream.flush()
    assert pipe.taken == TEXT.encode() + b"the rest"


def test_the_encoding_and_the_error_handler_stay() -> None:
    pipe = Pipe()
    first = unbuffered(pipe, "latin-1", "backslashreplace")
    stream = _buffered(first)
    print("ü ☃", file=stream)
    assert pipe.taken == b"\xfc \\u2603\n"


@pytest.mark.parametrize("stream", [io.StringIO(), io.TextIOWrapper(io.BytesIO())])
def test_a_stream_that_is_buffered_already_is_left_alone(stream: TextIO) -> None:
    assert _buffered(stream) is stream


def test_the_readme_lists_the_commands_that_there_are() -> None:
    """Each help text has an example."""
    written = (
        (Path(__file__).parents[3] / "README.md")
        .read_text()
        .partition("\n## Commands\n")[2]
        .partition(". Each has")[0]
    )
    listed = re.findall(r"`([^`]+)`", written.replace("`relay run`", "`run`").replace("\n", " "))
    commands = {name: load(name) for name in COMMANDS}
    several = {name: one.commands for name, one in commands.items() if hasattr(one, "commands")}
    assert sorted(listed) == sorted(
        f"{name} {'|'.join(several[name])}" if name in several else name for name in commands
    )
    for command in [*commands.values(), *several["dead"].values()]:
        assert "Example: " in f"{command.help} {command.epilog}", command.name


@pytest.mark.parametrize("command", [*COMMANDS, "dead list", "dead retry", "apns channels create"])
def test_the_help_of_a_command_has_only_its_own_options_and_no_markup(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "completion" not in shown.output
    assert "`" not in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_the_first_paragraph_of_its_help(name: str) -> None:
    """The list of commands is a table, because it must not import them."""
    paragraph = (load(name).help or "").partition("\n\n")[0]
    assert " ".join(paragraph.split()) == COMMANDS[name].summary
