"""A TCP proxy between relay and Redis that can cut, stall and delay the traffic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class TcpProxy:
    """Passes everything on, unless a fault is set; `heal` ends all faults. `accepted` counts connections."""

    def __init__(self, port: int) -> None:
        """`port`, on the loopback interface, is the target. It may be changed."""
        self.target = port
        self.port = 0
        self.accepted = 0
        self._refusing = False
        self._delay = 0.0
        self._requests_flow = asyncio.Event()
        self._answers_flow = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.heal()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def heal(self) -> None:
        """End all faults, and pass on the data that was held back."""
        self._refusing, self._delay = False, 0.0
        self._requests_flow.set()
        self._answers_flow.set()

    def cut(self) -> None:
        """Reset all connections, including new ones."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """Reset all connections; new ones work."""
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Keep connections open and accept new ones, but pass nothing on."""
        self._requests_flow.clear()
        self._answers_flow.clear()

    def lose_answers(self) -> None:
        """Pass commands on to Redis, but no answers."""
        self._answers_flow.clear()

    def delay(self, seconds: float) -> None:
        """Delay each answer by this many seconds."""
        self._delay = seconds

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, self._requests_flow, answers=False))
                group.create_task(self._pump(far_reader, writer, self._answers_flow, answers=True))
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flow: asyncio.Event,
        *,
        answers: bool,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await flow.wait()
                if answers and self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def proxying(port: int) -> AsyncIterator[TcpProxy]:
    """Run a proxy to a port of the loopback interface."""
    proxy = TcpProxy(port)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.heal()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
