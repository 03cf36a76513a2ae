"""Names to addresses without one slow name in front of another provider's.

The system's resolver blocks a thread for as long as a name server is silent, and the threads that event
loops have for it are few (libuv's are four) and shared by all. Each provider has its own here.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

LOOKUPS = 16
"""Names of one provider that are looked up at once; each is a thread, while it takes."""

MOST_ADDRESSES = 64
"""Addresses of a name that are used: a name server can give thousands, each to be checked and tried."""

Found = list[tuple[Any, ...]]


class ThreadResolver(AbstractResolver):
    """The system's resolver, with /etc/hosts and all else that it knows. Raises OSError."""

    def __init__(self, lookups: int = LOOKUPS) -> None:
        self._free = asyncio.Semaphore(lookups)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        await self._free.acquire()
        # A cancelled caller leaves its thread behind, which still counts until it ends.
        found = await asyncio.shield(self._start(host, port, family))
        return [
            ResolveResult(
                hostname=host,
                # With the zone of a link-local address, which the guard has to see as well.
                host=socket.getnameinfo(address, _NUMERIC)[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in found[:MOST_ADDRESSES]
        ]

    async def close(self) -> None:
        """Nothing to close: threads that still wait end by themselves, and do not keep the process."""

    def _start(self, host: str, port: int, family: socket.AddressFamily) -> asyncio.Future[Found]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Found] = loop.create_future()

        def look() -> None:
            try:
                found = socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
                )
            except Exception as error:  # UnicodeError and ValueError, for names that are none
                _tell(loop, done, None, error)
            else:
                _tell(loop, done, found, None)

        def done(found: Found | None, error: Exception | None) -> None:
            self._free.release()
            if result.done():
                return
            if error is not None:
                result.set_exception(error)
                # Nobody may be left to hear it.
                result.exception()
            else:
                result.set_result(found or [])

        # Not a pool: it would hold the process at its end for as long as a name server is silent.
        threading.Thread(target=look, name=f"resolve {host[:60]}", daemon=True).start()
        return result


_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def _tell(loop: asyncio.AbstractEventLoop, *call: Any) -> None:
    try:
        loop.call_soon_threadsafe(*call)
    except RuntimeError:
        return  # the loop has ended before the name server answered
