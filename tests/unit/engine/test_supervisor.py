"""Children of a supervisor: the smallest ones that there are, over the real link."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.engine.link import Orders
from relay.engine.supervisor import Supervisor, Tuning
from relay.settings.snapshot import Snapshot
from relay.store.deployment import Deployment

REPORTS = """
import os, pathlib, sys, time
from relay.admin.health import Health
from relay.engine.link import first_orders, inherited
import msgspec
end = inherited()
while True:
    orders = first_orders(end)
    pathlib.Path(sys.argv[1], str(os.getpid())).write_text(orders.snapshot.text)
    end.settimeout(0.05)
    while True:
        body = msgspec.msgpack.encode(Health(worker="w", pid=os.getpid(), settings=""))
        end.sendall(len(body).to_bytes(4, "big") + body)
        try:
            import socket
            if not end.recv(1, socket.MSG_PEEK):
                sys.exit(0)
            end.settimeout(None)
            break
        except TimeoutError:
            pass
"""
"""Writes its orders into a file that bears its pid, and reports twenty times a second."""

IDLE = "import time; time.sleep(3600)"  # a child that lives until it is ended

QUICK = Tuning(check=0.05, silence=5.0, first_wait=0.05)


def orders(text: str = "one", processes: int = 1) -> Orders:
    return Orders(Snapshot("relay.yaml", text), Deployment("host-1", processes))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def supervising(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[int]]:
    running = asyncio.create_task(supervisor.run())
    try:
        yield running
    finally:
        supervisor.stop()
        async with asyncio.timeout(120):
            await running


def pids(supervisor: Supervisor) -> set[int]:
    """The processes that have sent a report."""
    return {report.pid for report in supervisor.reports() if report.health is not None}


def child(folder: Path) -> list[str]:
    return [sys.executable, "-c", REPORTS, str(folder)]


async def test_a_killed_worker_is_replaced_with_the_orders_in_force(tmp_path: Path) -> None:
    supervisor = Supervisor(child(tmp_path), orders(), 5, tuning=QUICK)
    async with supervising(supervisor):
        await until(lambda: pids(supervisor))
        (first,) = pids(supervisor)
        supervisor.update(orders("two"), 5)
        await until(lambda: (tmp_path / str(first)).read_text() == "two")
        os.kill(first, signal.SIGKILL)
        await until(lambda: pids(supervisor) - {first})
        (second,) = pids(supervisor)
        assert (tmp_path / str(second)).read_text() == "two"


async def test_a_silent_worker_is_replaced_and_the_others_are_not(tmp_path: Path) -> None:
    supervisor = Supervisor(child(tmp_path), orders(processes=2), 5, tuning=QUICK)
    with capture_logs() as logged:
        async with supervising(supervisor):
            await until(lambda: len(pids(supervisor)) == 2)
            silent, healthy = pids(supervisor)
            os.kill(silent, signal.SIGSTOP)
            await until(lambda: len(pids(supervisor) - {silent}) == 2)
            assert healthy in pids(supervisor)
            with pytest.raises(ProcessLookupError):
                os.kill(silent, 0)
    assert [line["pid"] for line in logged if line["event"] == "a worker is silent; killing it"] == [silent]


async def test_a_suspended_supervisor_kills_no_healthy_worker(tmp_path: Path) -> None:
    tuning = Tuning(check=0.05, silence=2.0, start=60)
    supervisor = Supervisor(child(tmp_path), orders(), 5, tuning=tuning)
    async with supervising(supervisor):
        await until(lambda: pids(supervisor))
        before = pids(supervisor)
        time.sleep(3.5)  # noqa: ASYNC251 - nothing runs here for longer than `silence`, as after SIGSTOP
        (report,) = supervisor.reports()
        heard = report.health
        await until(lambda: supervisor.reports()[0].health is not heard)
        assert pids(supervisor) == before


async def test_the_number_of_workers_follows_the_orders(tmp_path: Path) -> None:
    supervisor = Supervisor(child(tmp_path), orders(processes=1), 5, tuning=QUICK)
    async with supervising(supervisor):
        await until(lambda: len(pids(supervisor)) == 1)
        supervisor.update(orders(processes=3), 5)
        await until(lambda: len(pids(supervisor)) == 3)
        three = pids(supervisor)
        supervisor.update(orders(processes=1), 5)
        await until(lambda: sum(runs(pid) for pid in three) == 1)
        assert len(supervisor.reports()) == 1


def runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_a_worker_that_ends_in_peace_is_replaced_unless_all_is_empty(tmp_path: Path) -> None:
    started = tmp_path / "started"
    command = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write('x')", str(started)]
    assert await Supervisor(command, orders(), 5, until_empty=True, tuning=QUICK).run() == 0
    assert started.read_text() == "x"
    async with supervising(Supervisor(command, orders(), 5, tuning=QUICK)):
        await until(lambda: len(started.read_text()) > 2)


async def test_wrong_usage_ends_the_supervisor_before_any_worker_has_worked() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit(2)"]
    async with asyncio.timeout(120):
        assert await Supervisor(command, orders(processes=2), 5, tuning=QUICK).run() == 2


async def test_a_signal_to_a_worker_that_has_just_ended_leaves_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first worker that ends makes the supervisor stop the second one, which has ended unseen."""
    wait = os.waitpid
    second_is_signalled = threading.Event()
    both_have_ended = threading.Barrier(2, timeout=60)

    def slowly(pid: int, options: int) -> tuple[int, int]:
        if options == 0 and threading.current_thread() is not threading.main_thread():
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            if both_have_ended.wait():
                second_is_signalled.wait(5)
        return wait(pid, options)

    def kill(pid: int, number: int) -> None:
        send(pid, number)
        second_is_signalled.set()

    send = os.kill
    monkeypatch.setattr(os, "waitpid", slowly)
    monkeypatch.setattr(os, "kill", kill)
    command = [sys.executable, "-c", "import sys; sys.exit(2)"]
    supervisor = Supervisor(command, orders(processes=2), 60, tuning=QUICK)
    async with asyncio.timeout(120):
        assert await supervisor.run() == 2


async def test_wrong_usage_ends_nothing_once_a_worker_has_worked(tmp_path: Path) -> None:
    """Break the installed package under a running supervisor."""
    (tmp_path / "child.py").write_text(REPORTS)
    command = [sys.executable, str(tmp_path / "child.py"), str(tmp_path)]
    supervisor = Supervisor(command, orders(), 5, tuning=QUICK)
    with capture_logs() as logged:
        async with supervising(supervisor):
            await until(lambda: pids(supervisor))
            (tmp_path / "child.py").write_text("import sys; sys.exit(2)")
            (pid,) = pids(supervisor)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: sum(line.get("exit_code") == 2 for line in logged) > 1)
            (tmp_path / "child.py").write_text(REPORTS)
            await until(lambda: pids(supervisor))


async def test_a_configuration_that_no_worker_can_use_is_replaced_by_the_previous_one(
    tmp_path: Path,
) -> None:
    refuses = REPORTS.replace(
        "    pathlib.Path(", "    orders.snapshot.text == 'bad' and sys.exit(2)\n    pathlib.Path(", 1
    )
    supervisor = Supervisor([sys.executable, "-c", refuses, str(tmp_path)], orders(), 5, tuning=QUICK)
    async with supervising(supervisor):
        await until(lambda: pids(supervisor))
        (first,) = pids(supervisor)
        supervisor.update(orders("bad"), 5)
        await until(lambda: pids(supervisor) - {first})
        (second,) = pids(supervisor)
        assert (tmp_path / str(second)).read_text() == "one"
        failure = supervisor.orders.deployment.reload_failure
        assert failure is not None
        assert "a worker cannot use it" in failure.problem


async def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """The same as without a free descriptor or memory for a process."""
    command = [str(tmp_path / "missing")]
    supervisor = Supervisor(command, orders(), 5, tuning=QUICK)
    with capture_logs() as logged:
        async with supervising(supervisor):
            await until(lambda: len(logged) > 1)
            program = tmp_path / "missing"
            program.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/child.py {tmp_path}\n")
            (tmp_path / "child.py").write_text(REPORTS)
            program.chmod(0o700)
            await until(lambda: pids(supervisor))
    assert {line["event"] for line in logged} == {"cannot start a worker; trying again"}


async def test_a_hangup_that_finds_no_handler_restarts_the_child_at_once(tmp_path: Path) -> None:
    supervisor = Supervisor(child(tmp_path), orders(), 5, tuning=QUICK)
    with capture_logs() as logged:
        async with supervising(supervisor):
            await until(lambda: pids(supervisor))
            (first,) = pids(supervisor)
            os.kill(first, signal.SIGHUP)
            await until(lambda: pids(supervisor) - {first})
    assert logged == []


async def test_a_stop_that_comes_before_the_children_is_not_lost_on_them() -> None:
    """They would be waited for, and then be killed."""
    supervisor = Supervisor([sys.executable, "-c", IDLE], orders(processes=2), 900)
    supervisor.stop()
    async with asyncio.timeout(120):
        assert await supervisor.run() == 0
    supervisor = Supervisor([sys.executable, "-c", IDLE], orders(processes=2), 900)
    running = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0)  # it has begun to start them
    supervisor.stop()
    async with asyncio.timeout(120):
        assert await running == 0


async def test_a_worker_that_ignores_a_stop_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    script = (
        "import os, signal, subprocess, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"  # until killed
        "pathlib.Path(sys.argv[1], 'pid').write_text(str(other.pid))\n"
        "time.sleep(600)\n"  # until killed
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    supervisor = Supervisor(command, orders(), 0.1, tuning=Tuning(grace=0.1))
    async with supervising(supervisor):
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    other = int((tmp_path / "pid").read_text())
    await until(lambda: not runs(other) or "Z" in Path(f"/proc/{other}/stat").read_text().split()[2])
