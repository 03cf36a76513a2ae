"""Transfers of libcurl in the event loop, over its multi-socket interface (libcurl-multi(3)).

pycurl brings `AsyncCurlMulti` for this, which is used where there is no epoll. It watches each connection
anew for each request, at six system calls of the event loop's; that is half of what a request costs.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Protocol

import pycurl

from relay.http.threads import in_thread

_CLOSED = pycurl.error(pycurl.E_ABORTED_BY_CALLBACK, "closed meanwhile")

_CLOSE_TIMEOUT = 1.0
"""Seconds to wait for connections to be closed."""

_EVENTS = 256
"""Sockets that are dealt with before the event loop goes on."""


OnEnd = Callable[[pycurl.error | None], None]


class Multi(Protocol):
    """What performs transfers side by side, and keeps their connections."""

    def setopt(self, option: int, value: int) -> None:
        """One of libcurl's M_ options."""

    def start(self, curl: pycurl.Curl, on_end: OnEnd) -> None:
        """Perform a transfer: the event loop calls `on_end` when it has ended, with what went wrong.

        Raises pycurl.error."""

    def stop(self, curl: pycurl.Curl) -> None:
        """Take a transfer back: nobody is told of its end."""

    async def aclose(self) -> None:
        """Close all connections; transfers under way end with an error."""


def open_multi() -> Multi:
    """Where an event loop runs."""
    return _EpollMulti() if hasattr(select, "epoll") else _LibraryMulti()


class _LibraryMulti:
    """pycurl's own driver, with a task for each transfer."""

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
    """The event loop watches an epoll of our own, which goes on watching connections that are idle: most
    serve another request at once. Those that were closed the kernel forgets by itself."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_interest)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._under_way: dict[pycurl.Curl, OnEnd] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings = math.inf
        """When the timer goes off, by the loop's clock."""
        self._due = math.inf
        """When the library wants to be called."""
        self._at_once = False
        """Whether it is called in the next round of the loop."""
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._active: set[int] = set()
        self._closed = _closed_socket().fileno()
        self._has_new = False
        """Whether a transfer was started that has no connection yet."""
        self._loop.add_reader(self._epoll.fileno(), self._on_events)

    def setopt(self, option: int, value: int) -> None:
        self._multi.setopt(option, value)

    def start(self, curl: pycurl.Curl, on_end: OnEnd) -> None:
        self._has_new = True
        self._multi.add_handle(curl)
        self._under_way[curl] = on_end

    def stop(self, curl: pycurl.Curl) -> None:
        if self._under_way.pop(curl, None) is not None:
            self._multi.remove_handle(curl)

    async def aclose(self) -> None:
        if self._epoll.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        for curl in list(self._under_way):
            self._end(curl, _CLOSED)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        # libcurl waits for its lookups of names, which a silent name server holds for half a minute.
        with suppress(TimeoutError):
            await in_thread(self._multi.close, _CLOSE_TIMEOUT)

    def _on_interest(self, what: int, number: int, _multi: object, _data: object) -> None:
        """libcurl wants to hear of something else on a socket."""
        if what == pycurl.POLL_REMOVE:
            self._active.discard(number)
            return
        if self._epoll.closed:
            return  # connections end their TLS, in a thread
        self._active.add(number)
        events = _interest(what)
        if number in self._watched:
            # Not `suppress`, which takes longer than all this.
            try:
                self._epoll.modify(number, events)
            except FileNotFoundError:
                pass  # it is another one by now that has the same number
            else:
                return
        self._epoll.register(number, events)
        self._watched.add(number)

    def _on_timer(self, milliseconds: int) -> None:
        """libcurl wants to be called after so long; -1: not at all. It does not say it twice."""
        if self._epoll.closed:
            return
        if milliseconds == 0:
            self._due = math.inf
            if not self._at_once:
                # Not within a call of the library.
                self._at_once = True
                self._loop.call_soon(self._on_time)
            return
        self._due = self._loop.time() + milliseconds / 1000 if milliseconds > 0 else math.inf
        # What is due first changes with each answer, mostly to something later: then the timer stays.
        if self._due < self._rings:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = self._due
        self._timer = self._loop.call_at(self._due, self._on_ring)

    def _on_ring(self) -> None:
        self._timer, self._rings = None, math.inf
        if self._due <= self._loop.time():
            self._due = math.inf
            self._on_time()
        elif self._due < math.inf:
            self._set_timer()

    def _on_time(self) -> None:
        self._at_once = False
        if self._epoll.closed:
            return
        if self._has_new:
            # Connections that were answered without a request must not serve the new transfers.
            self._has_new = False
            self._on_events()
        self._act(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    def _on_events(self) -> None:
        ready = self._epoll.poll(0, _EVENTS)
        # First, because each call of the library may give an idle connection to a new transfer.
        for number, events in ready:
            if number not in self._active:
                self._on_idle_event(number, events)
        for number, events in ready:
            if number in self._active:
                self._act(number, _ready(events))
        self._collect()

    def _on_idle_event(self, number: int, events: int) -> None:
        """End an idle connection that its other side closed, or on which it sent bytes.

        libcurl would take the bytes for the answer to its next request, and has no call to end a connection:
        a closed socket takes the place of this one.
        """
        if events == select.EPOLLOUT:
            self._epoll.modify(number, select.EPOLLIN)
            return
        self._watched.discard(number)
        os.dup2(self._closed, number, inheritable=False)

    def _act(self, number: int, ready: int) -> None:
        try:
            self._multi.socket_action(number, ready)
        except pycurl.error as error:
            for curl in list(self._under_way):
                self._end(curl, error)

    def _collect(self) -> None:
        _, done, failed = self._multi.info_read()
        for curl in done:
            self._end(curl, None)
        for curl, code, words in failed:
            self._end(curl, pycurl.error(code, words))

    def _end(self, curl: pycurl.Curl, error: pycurl.error | None) -> None:
        # One of those that end together may have had another stopped.
        on_end = self._under_way.pop(curl, None)
        if on_end is None:
            return
        self._multi.remove_handle(curl)
        try:
            on_end(error)
        except Exception as failure:  # the others' ends must still be told
            self._loop.call_exception_handler(
                {"message": "a call at the end of a transfer failed", "exception": failure}
            )


@cache
def _closed_socket() -> socket.socket:
    """A socket whose other side is closed. One for the process, made while descriptors are left."""
    ours, other = socket.socketpair()
    other.close()
    return ours


@cache
def _interest(what: int) -> int:
    """What libcurl waits for, in the words of epoll."""
    return select.EPOLLIN * bool(what & pycurl.POLL_IN) | select.EPOLLOUT * bool(what & pycurl.POLL_OUT)


@cache
def _ready(events: int) -> int:
    """What epoll tells, in the words of libcurl."""
    ready = 0
    if events & (select.EPOLLIN | select.EPOLLHUP):
        ready |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        ready |= pycurl.CSELECT_OUT
    if events & select.EPOLLERR:
        ready |= pycurl.CSELECT_ERR
    return ready
