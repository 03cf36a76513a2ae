"""What becomes of children, with the smallest ones that there are."""

from __future__ import annotations

import asyncio
import signal
import sys

from structlog.testing import capture_logs

from relay.supervisor import Supervisor

CHILD = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as parent:
    parent.recv(1)
"""
"""Says that it is there, and has no handler of any signal."""


async def test_a_child_that_a_hangup_finds_without_a_handler_is_started_again_at_once() -> None:
    started: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: started.put_nowait(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    supervisor = Supervisor([sys.executable, "-c", CHILD, str(port)], 1, 20)
    with capture_logs() as said:
        running = asyncio.create_task(supervisor.run())
        async with asyncio.timeout(120):
            first = await started.get()
            for _ in range(3):
                supervisor.forward(signal.SIGHUP)
                last = await started.get()
            supervisor.forward(signal.SIGTERM)
            assert await running == 0
    assert said == []
    first.close()
    last.close()
    server.close()


async def test_a_stop_that_comes_before_the_children_is_not_lost_on_them() -> None:
    """They would be waited for, and then be killed."""
    supervisor = Supervisor([sys.executable, "-c", "import time; time.sleep(1000)"], 2, 900)
    supervisor.forward(signal.SIGTERM)
    async with asyncio.timeout(120):
        assert await supervisor.run() == 0
    supervisor = Supervisor([sys.executable, "-c", "import time; time.sleep(1000)"], 2, 900)
    running = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0)  # it has begun to start them
    supervisor.forward(signal.SIGTERM)
    async with asyncio.timeout(120):
        assert await running == 0
