"""Transfers of libcurl in the event loop, over its multi-socket interface (libcurl-multi(3)).

pycurl brings `AsyncCurlMulti` for this, which is used where there is no epoll. It watches each connection
anew for each request, at six system calls of the event loop's; that is half of what a request costs.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from functools import cache
from typing import Protocol

import pycurl

_EVENTS = 256
"""Sockets that are dealt with before the event loop goes on."""


class Multi(Protocol):
    """What performs transfers side by side, and keeps their connections."""

    def setopt(self, option: int, value: int) -> None:
        """One of libcurl's M_ options."""

    async def perform(self, curl: pycurl.Curl) -> object:
        """Return when the transfer has ended; it is cancelled with its task. Raises pycurl.error."""

    async def aclose(self) -> None:
        """Close all connections; transfers under way are cancelled."""


def open_multi() -> Multi:
    """Where an event loop runs."""
    return _EpollMulti() if hasattr(select, "epoll") else pycurl.AsyncCurlMulti()


class _EpollMulti:
    """The event loop watches an epoll of our own, which goes on watching connections that are idle: most
    serve another request at once. Those that were closed the kernel forgets by itself."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_interest)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._futures: dict[pycurl.Curl, asyncio.Future[None]] = {}
        self._timer: asyncio.Handle | None = None
        self._at_once = False
        """Whether the timer goes off in the next round of the loop."""
        self._afterwards = 0
        """Milliseconds that it was to be set to meanwhile."""
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._active: set[int] = set()
        self._loop.add_reader(self._epoll.fileno(), self._on_events)

    def setopt(self, option: int, value: int) -> None:
        self._multi.setopt(option, value)

    async def perform(self, curl: pycurl.Curl) -> None:
        future = self._futures[curl] = self._loop.create_future()
        try:
            self._multi.add_handle(curl)
            await future
        except BaseException:
            if self._futures.pop(curl, None) is not None:
                self._multi.remove_handle(curl)
            raise

    async def aclose(self) -> None:
        if self._epoll.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        for curl, future in list(self._futures.items()):
            self._multi.remove_handle(curl)
            future.cancel()
        self._futures.clear()
        self._multi.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _on_interest(self, what: int, socket: int, _multi: object, _data: object) -> None:
        """libcurl wants to hear of something else on a socket."""
        if what == pycurl.POLL_REMOVE:
            self._active.discard(socket)
            return
        self._active.add(socket)
        events = _interest(what)
        if socket in self._watched:
            # Not `suppress`, which takes longer than all this.
            try:
                self._epoll.modify(socket, events)
            except FileNotFoundError:
                pass  # it is another one by now that has the same number
            else:
                return
        self._epoll.register(socket, events)
        self._watched.add(socket)

    def _on_timer(self, milliseconds: int) -> None:
        if self._at_once:
            # As for each of many requests that are added in a row.
            self._afterwards = milliseconds
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds == 0:
            # Not within a call of the library.
            self._at_once = True
            self._timer = self._loop.call_soon(self._on_time)
        elif milliseconds > 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._at_once = False
        self._act(pycurl.SOCKET_TIMEOUT, 0)
        if self._timer is None and self._afterwards > 0:
            # The library does not say it twice.
            self._on_timer(self._afterwards)
        self._afterwards = 0
        self._collect()

    def _on_events(self) -> None:
        for socket, events in self._epoll.poll(0, _EVENTS):
            if socket in self._active:
                self._act(socket, _ready(events))
                continue
            # Idle, and closed by the other side: the library sees that before it uses it.
            self._watched.discard(socket)
            with suppress(OSError):
                self._epoll.unregister(socket)
        self._collect()

    def _act(self, socket: int, ready: int) -> None:
        try:
            self._multi.socket_action(socket, ready)
        except pycurl.error as error:
            for curl in list(self._futures):
                self._end(curl, error)

    def _collect(self) -> None:
        _, done, failed = self._multi.info_read()
        for curl in done:
            self._end(curl, None)
        for curl, code, words in failed:
            self._end(curl, pycurl.error(code, words))

    def _end(self, curl: pycurl.Curl, error: pycurl.error | None) -> None:
        self._multi.remove_handle(curl)
        future = self._futures.pop(curl)
        if future.done():
            return  # its task was cancelled, and has not heard of it yet
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


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
