"""Transfers of libcurl in the event loop, through its multi-socket interface (libcurl-multi(3)).

pycurl's own driver, `AsyncCurlMulti`, is used on systems without epoll. For each request it registers the
connection again, with six system calls of the event loop: half of the cost of a request.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cache, partial
from typing import Protocol

import pycurl

from relay.http.curl_sockets import Sockets
from relay.http.threads import in_thread

_CLOSED = pycurl.error(pycurl.E_ABORTED_BY_CALLBACK, "closed")

_CLOSE_TIMEOUT = 1.0
"""Seconds to wait until connections are closed."""

_ENDED = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP if hasattr(select, "epoll") else 0


class IdleInput(Enum):
    """Reaction to data that a server sends on an idle connection."""

    END = "HTTP/1.1: end the connection, because the bytes would become the response to the next request"
    KEEP = "HTTP/2: leave it to libcurl, which reads it before the next request"


OnEnd = Callable[[pycurl.error | None], None]


class Multi(Protocol):
    """Performs transfers concurrently and keeps their connections."""

    def setopt(self, option: int, value: int) -> None:
        """Set one of libcurl's M_ options."""

    def start(self, curl: pycurl.Curl, on_end: OnEnd) -> None:
        """Start a transfer. The event loop calls `on_end` when it has ended, with its error if there is one.

        Raises pycurl.error.
        """

    def stop(self, curl: pycurl.Curl) -> None:
        """Abort a transfer: its callback is never called."""

    @property
    def in_flight(self) -> int:
        """The number of transfers that have started and not ended."""

    def wake(self) -> None:
        """Make a waiting transfer check whether a connection is free."""

    async def aclose(self) -> None:
        """Close all connections; transfers in flight end with an error."""


def open_multi(idle_input: IdleInput = IdleInput.END) -> Multi:
    """Return the best driver. Must be called in a running event loop."""
    return _EpollMulti(idle_input) if hasattr(select, "epoll") else _LibraryMulti()


class _LibraryMulti:
    """pycurl's own driver, with a task per transfer."""

    def __init__(self) -> None:
        self._multi = pycurl.AsyncCurlMulti()
        self._tasks: dict[pycurl.Curl, asyncio.Task[object]] = {}

    def setopt(self, option: int, value: int) -> None:
        self._multi.setopt(option, value)

    def start(self, curl: pycurl.Curl, on_end: OnEnd) -> None:
        task = self._tasks[curl] = asyncio.get_running_loop().create_task(self._perform(curl))
        task.add_done_callback(partial(self._ended, curl, on_end))

    async def _perform(self, curl: pycurl.Curl) -> None:
        await self._multi.perform(curl)

    def stop(self, curl: pycurl.Curl) -> None:
        task = self._tasks.pop(curl, None)
        if task is not None:
            task.cancel()

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    def wake(self) -> None:
        """Not needed: libcurl checks again when a transfer has ended."""

    async def aclose(self) -> None:
        await self._multi.aclose()

    def _ended(self, curl: pycurl.Curl, on_end: OnEnd, task: asyncio.Task[object]) -> None:
        if self._tasks.get(curl) is not task:
            return
        del self._tasks[curl]
        error = _CLOSED if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, pycurl.error):
            raise error
        on_end(error)


class _EpollMulti:
    """Its sockets are in an epoll with those of the other drivers."""

    def __init__(self, idle_input: IdleInput) -> None:
        self._idle_input = idle_input
        self._loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_interest)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._in_flight: dict[pycurl.Curl, OnEnd] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf
        """The time at which the timer fires, by the loop's clock."""
        self._due = math.inf
        """The time at which libcurl has to be called."""
        self._at_once = False
        """Whether a call is scheduled for the next iteration of the event loop."""
        self._sockets = Sockets.join()
        self._watched: set[int] = set()
        self.active: set[int] = set()
        self._closed = _closed_socket().fileno()
        self._is_closed = False

    def setopt(self, option: int, value: int) -> None:
        self._multi.setopt(option, value)

    def start(self, curl: pycurl.Curl, on_end: OnEnd) -> None:
        self._sockets.has_new = True
        self._multi.add_handle(curl)
        self._in_flight[curl] = on_end

    def stop(self, curl: pycurl.Curl) -> None:
        if self._in_flight.pop(curl, None) is not None:
            self._multi.remove_handle(curl)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def wake(self) -> None:
        # libcurl checks one waiting transfer whenever another is removed, and that transfer wakes the next.
        with suppress(pycurl.error):
            probe = pycurl.Curl()
            self._multi.add_handle(probe)
            self._multi.remove_handle(probe)

    async def aclose(self) -> None:
        if self._is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        for curl in list(self._in_flight):
            self._end(curl, _CLOSED)
        self._is_closed = True
        self._sockets.leave(self, self._watched)
        # libcurl waits for its name lookups, which a silent name server delays by half a minute.
        with suppress(TimeoutError):
            await in_thread(self._multi.close, _CLOSE_TIMEOUT)

    def _on_interest(self, what: int, number: int, _multi: object, _data: object) -> None:
        """CURLMOPT_SOCKETFUNCTION: libcurl waits for other events on a socket."""
        if what == pycurl.POLL_REMOVE:
            self.active.discard(number)
        elif not self._is_closed:  # connections close their TLS in a thread
            self.active.add(number)
            self._watched.add(number)
            self._sockets.watch(self, number, _interest(what))

    def _on_timer(self, milliseconds: int) -> None:
        """CURLMOPT_TIMERFUNCTION: call libcurl after this time (-1: never). libcurl reports each time
        once."""
        if self._is_closed:
            return
        if milliseconds == 0:
            # libcurl must not be called from its own callback.
            self._call_soon()
            return
        self._due = self._loop.time() + milliseconds / 1000 if milliseconds > 0 else math.inf
        # Each response moves the time, mostly to a later one. The timer then stays until it fires.
        if self._due < self._fires_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._due
        self._timer = self._loop.call_at(self._due, self._on_fire)

    def _on_fire(self) -> None:
        self._timer, self._fires_at = None, math.inf
        if self._due <= self._loop.time():
            self._call_soon()
        elif self._due < math.inf:
            self._set_timer()

    def _call_soon(self) -> None:
        self._due = math.inf
        if not self._at_once:
            self._at_once = True
            self._sockets.call_soon(self)

    def on_turn(self) -> None:
        """The time that libcurl named has come."""
        self._at_once = False
        if not self._is_closed:
            self.act(pycurl.SOCKET_TIMEOUT, 0)
            self._collect()

    def on_events_handled(self) -> None:
        """Some transfers may have ended."""
        if not self._is_closed:
            self._collect()

    def on_idle_event(self, number: int, events: int) -> None:
        """End an idle connection that the server has closed, or on which it has sent bytes.

        libcurl would take the bytes for the response to its next request. It has no function to end a
        connection, so a closed socket takes the place of this one.
        """
        if events == select.EPOLLOUT:
            self._sockets.watch(self, number, select.EPOLLIN)
            return
        if self._idle_input is IdleInput.KEEP and not events & _ENDED:
            self._sockets.watch(self, number, select.EPOLLRDHUP)
            return
        os.dup2(self._closed, number, inheritable=False)
        self._watched.discard(number)
        self._sockets.forget(number)

    def act(self, number: int, ready: int) -> None:
        """Let libcurl continue a transfer."""
        try:
            self._multi.socket_action(number, ready)
        except pycurl.error as error:
            for curl in list(self._in_flight):
                self._end(curl, error)

    def _collect(self) -> None:
        _, done, failed = self._multi.info_read()
        for curl in done:
            self._end(curl, None)
        for curl, code, words in failed:
            self._end(curl, pycurl.error(code, words))

    def _end(self, curl: pycurl.Curl, error: pycurl.error | None) -> None:
        # The callback of another transfer may have stopped this one.
        on_end = self._in_flight.pop(curl, None)
        if on_end is None:
            return
        self._multi.remove_handle(curl)
        try:
            on_end(error)
        except Exception as failure:  # the other callbacks must still be called
            self._loop.call_exception_handler(
                {"message": "the callback of a transfer failed", "exception": failure}
            )


@cache
def _closed_socket() -> socket.socket:
    """Return a socket whose peer is closed. One per process, created while descriptors are available."""
    ours, other = socket.socketpair()
    other.close()
    return ours


@cache
def _interest(what: int) -> int:
    """Return the epoll events for which libcurl waits."""
    return select.EPOLLIN * bool(what & pycurl.POLL_IN) | select.EPOLLOUT * bool(what & pycurl.POLL_OUT)
