"""The commands of docs/tutorial.md and README.md, in the order of the page, with the output that it shows.

Only the ports differ.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from redis.asyncio import Redis

from testing.pages.blocks import ROOT, Block, blocks, commands
from testing.pages.not_run import reason
from testing.pages.shown import is_shown
from testing.ports import free_port
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, environment

EMBEDDED = "embedded://./data?port=6380"
SERVERS = ("relay sandbox", "relay run")
"""Commands that run until Ctrl-C."""

LOOKS = re.compile(r"relay (check|find|status|dead list)\b")
"""Commands that change nothing, so that a reader may repeat them."""

PATIENCE = 120.0


class Reader:
    """Somebody who types the commands of the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = ""
        """The output of the last block of commands."""
        self._commands = ""
        self._servers: list[asyncio.subprocess.Process] = []
        self._ports = {"8089": str(free_port()), "6380": str(free_port())}
        self._admin = free_port()

    def _with_ports(self, text: str) -> str:
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text

    def write(self, text: str) -> None:
        rest = f"admin: {{listen: '127.0.0.1:{self._admin}'}}\nprocesses: 1\n"
        (self.folder / "relay.yaml").write_text(self._with_ports(text) + rest)

    async def type(self, commands: str) -> None:
        if commands.strip() in SERVERS:
            await self._start(commands.strip())
        else:
            self._commands = self._with_ports(commands)
            self.output = await self._output_of("bash", "-euo", "pipefail", "-c", self._commands)

    async def run_python(self, text: str) -> None:
        await self._output_of(sys.executable, "-c", self._with_ports(text))

    async def sees(self, lines: str) -> None:
        """Wait until the lines are shown, by a server or by the last commands, repeated if they only look."""
        missing = self._with_ports(lines).splitlines()
        try:
            async with asyncio.timeout(PATIENCE):
                while missing := [line for line in missing if not is_shown(line, self._all_output())]:
                    if all(LOOKS.match(line) for line in self._commands.splitlines()):
                        await self.type(self._commands)
                    else:
                        await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{missing} is not shown, but {self._all_output()}") from None

    async def leave(self) -> None:
        """Ctrl-C in each terminal."""
        for server in self._servers:
            if server.returncode is None:
                server.terminate()
            assert await server.wait() == 0

    def _all_output(self) -> str:
        return "\n".join([self.output, *(path.read_text() for path in self.folder.glob("*.out"))])

    async def _start(self, command: str) -> None:
        extra = ["--listen", f"127.0.0.1:{self._ports['8089']}"] if command == "relay sandbox" else []
        path = self.folder / f"{len(self._servers)}.out"
        with path.open("wb") as file:
            server = await asyncio.create_subprocess_exec(
                RELAY,
                *command.split()[1:],
                *extra,
                cwd=self.folder,
                stdout=file,
                stderr=file,
                env=environment(NO_COLOR="1", COLUMNS="200"),
            )
        self._servers.append(server)
        ready = "ready" if command == "relay run" else "sandbox at"
        async with asyncio.timeout(PATIENCE):
            while ready not in path.read_text():
                await asyncio.sleep(0.05)

    async def _output_of(self, *words: str) -> str:
        programs = os.pathsep.join((str(Path(RELAY).parent), os.environ["PATH"]))
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(PATH=programs, COLUMNS="200"),
        )
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
        assert process.returncode == 0, (words, output)
        return output.decode()


async def follow(reader: Reader, steps: list[Block]) -> None:
    for block in steps:
        match block.language:
            case "yaml":
                reader.write(block.text)
            case "sh":
                lines = commands(block)
                await reader.type("\n".join(line for line in lines if not reason(block.page, line)))
            case "python":
                await reader.run_python(block.text)
            case "text":
                await reader.sees(block.text)


async def test_a_reader_of_the_tutorial_has_a_message_delivered(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        await follow(reader, blocks("docs/tutorial.md"))
    finally:
        await reader.leave()


async def test_a_reader_of_the_readme_has_a_message_delivered_by_a_redis_of_their_own(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    readme = (ROOT / "README.md").read_text().partition("## Get started")[2].partition("\n## ")[0]
    assert "`redis://127.0.0.1:6379/0`" in readme
    reader = Reader(tmp_path)
    try:
        steps = blocks("README.md", readme)
        await follow(
            reader, [replace(step, text=step.text.replace(EMBEDDED, redis_server.url)) for step in steps]
        )
        await reader.sees(
            '200 webhook /webhook/demo POST {"order": 17, "state": "sent"}\norder-17 at shop: delivered'
        )
    finally:
        await reader.leave()
