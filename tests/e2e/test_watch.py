"""`relay status --watch`: the screen, its keys, and a real terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from relay.cli.watch import WatchApp
from relay.cli.watch_dialogs import DeadLetters, PauseDialog
from relay.provider import AdapterOptions, discover
from relay.settings.load import load
from relay.store.lane import Lane
from relay.store.overview import read_lane
from testing.builders import a_lane, plain_message
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, environment, write_config
from testing.site import WEBHOOK_SECRET


@pytest.fixture
def config(tmp_path: Path, redis: Redis, redis_server: RedisServer) -> Path:
    hook = {"type": "webhook", "url": "http://127.0.0.1:1/", "secret": WEBHOOK_SECRET, "groups": False}
    providers = {name: {**hook, "rate": "50/s"} for name in ("alpha", "beta", "gamma")}
    return write_config(tmp_path, redis_server.url, providers)


class Screen(WatchApp):
    """The screen, with the texts that it showed for a moment."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.notified: list[str] = []

    def notify(self, message: str, **options: Any) -> None:
        self.notified.append(message)
        super().notify(message, **options)


@pytest.fixture
def app(config: Path, redis: Redis) -> Screen:
    return Screen(redis, load(config, AdapterOptions(discover())), refresh=0.05)


def shown(app: WatchApp, part: str) -> str:
    return str(app.screen.query_one(part, Static).render())


def names(app: WatchApp) -> list[str]:
    """The lanes on the screen, in their order."""
    table: DataTable[object] = app.query_one("#lanes", DataTable)
    return [str(table.get_row_at(row)[0]) for row in range(table.row_count)]


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await pilot.pause(0.01)


def lane_of(redis: Redis, name: str) -> Lane:
    return a_lane(redis, name=name)


async def test_the_screen_follows_the_fleet(app: WatchApp, redis: Redis) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: names(app) == ["alpha", "beta", "gamma"])
        assert "no worker is alive" in shown(app, "#summary")
        await lane_of(redis, "beta").enqueue([plain_message(str(number)) for number in range(7)])
        await until(pilot, lambda: "7 waiting" in shown(app, "#summary"))
        assert names(app)[0] == "beta", "messages wait that no worker will take"
        await pilot.resize_terminal(160, 50)
        await until(pilot, lambda: app.size.width == 160)
        assert names(app)[0] == "beta"


async def test_a_filter_and_an_order_choose_the_lanes(app: WatchApp, redis: Redis) -> None:
    await lane_of(redis, "gamma").enqueue([plain_message("1")])
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: names(app) == ["gamma", "alpha", "beta"])
        await pilot.press("s")
        assert "[by name]" in shown(app, "#summary")
        assert names(app) == ["alpha", "beta", "gamma"]
        await pilot.press("slash", "b", "e", "t")
        assert names(app) == ["beta"]
        await pilot.press("enter")
        await pilot.press("q")
    assert app.return_code == 0


async def test_a_lane_is_paused_and_resumed_with_a_reason(app: WatchApp, redis: Redis) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(names(app)) == 3)
        await pilot.press("down", "p")
        await until(pilot, lambda: isinstance(app.screen, PauseDialog))
        await pilot.press("escape")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, PauseDialog))
        await pilot.press(*"moving", "enter", *"2h", "enter")
        await until(pilot, lambda: "beta is paused" in shown(app, "#summary"))
        lane = await read_lane(redis, "relay", "beta", [], time.time())
        assert lane.pause is not None
        assert lane.pause.reason == "moving"
        assert lane.pause.until
        assert "moving" in shown(app, "#why")
        await pilot.press("r", "enter")
        await until(pilot, lambda: "beta is paused" not in shown(app, "#summary"))
    audit = str(await redis.xrange("relay:{fleet}:audit"))
    assert "pause" in audit
    assert "resume" in audit


async def test_a_mistake_in_a_dialog_changes_nothing(app: Screen, redis: Redis) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(names(app)) == 3)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, PauseDialog))
        await pilot.press("enter", *"soon", "enter")
        await until(pilot, lambda: any("soon" in text for text in app.notified))
    assert (await read_lane(redis, "relay", "alpha", [], time.time())).pause is None


async def test_dead_letters_are_counted_by_reason_and_cannot_control_the_terminal(
    app: WatchApp, redis: Redis
) -> None:
    for reason in ("413 too large", "413 too large", "\x1b[2J[red]"):
        await redis.xadd("relay:{alpha}:dead", {"reason": reason, "raw": "x", "queue": "q", "at": "1"})
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(names(app)) == 3)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, DeadLetters))
        text = shown(app, "#letters")
        assert "2  413 too large" in text
        assert "1  \\x1b[2J[red]" in text
        await pilot.press("escape")


async def test_a_redis_that_refuses_is_said_on_the_screen(app: WatchApp, redis: Redis) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(names(app)) == 3)
        await redis.set("relay:{fleet}:workers", "no sorted set", get=True)
        await until(pilot, lambda: "Redis refuses to read keys of the fleet" in shown(app, "#summary"))


class Terminal:
    """`relay status --watch` in a pseudo-terminal."""

    def __init__(self, config: Path, columns: int) -> None:
        pid, self.end = pty.fork()
        if pid == 0:
            words = [RELAY, "status", "--watch", "-c", str(config)]
            # A size in the environment, which pytest-xdist sets, would hide that of the terminal.
            variables = environment(TERM="xterm-256color")
            fixed = {name: text for name, text in variables.items() if name not in ("COLUMNS", "LINES")}
            os.execve(RELAY, words, fixed)
        self.pid = pid
        self.output = b""
        self.resize(columns)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read_until(self, text: bytes) -> None:
        """Read the output until it contains the text, from now on."""
        self.output = b""
        while text not in self.output:
            self.output += os.read(self.end, 65536)

    def wait(self) -> int:
        """Return the exit code when the process has ended, and put its last output into `output`."""
        while True:
            try:
                data = os.read(self.end, 65536)
            except OSError:  # the other end is closed
                data = b""
            if not data:
                break
            self.output += data
        _, status = os.waitpid(self.pid, 0)
        os.close(self.end)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("way", ["q", "Ctrl-C"])
async def test_a_terminal_is_left_as_it_was(config: Path, way: str) -> None:
    terminal = Terminal(config, 80)
    try:
        await asyncio.wait_for(asyncio.to_thread(terminal.read_until, b"gamma"), 60)
        terminal.resize(160)
        await asyncio.wait_for(asyncio.to_thread(terminal.read_until, b"delivered"), 60)
        os.write(terminal.end, {"q": b"q", "Ctrl-C": b"\x03"}[way])
        code = await asyncio.wait_for(asyncio.to_thread(terminal.wait), 60)
    except BaseException:
        os.kill(terminal.pid, signal.SIGKILL)
        raise
    assert code == 0
    assert b"\x1b[?1049l" in terminal.output, "the normal screen is back"
    assert b"\x1b[?25h" in terminal.output, "the cursor is back"


async def test_a_pipe_gets_one_line_for_each_refresh(config: Path) -> None:
    watching = await asyncio.create_subprocess_exec(
        RELAY, "status", "--watch", "-c", str(config), stdout=asyncio.subprocess.PIPE
    )
    assert watching.stdout is not None
    try:
        async with asyncio.timeout(120):
            lines = [await watching.stdout.readline() for _ in range(2)]
    finally:
        watching.send_signal(signal.SIGINT)
        await watching.wait()
    assert all(line.startswith(b"20") and line.endswith(b"nothing waits\n") for line in lines)
