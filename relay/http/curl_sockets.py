"""The sockets of all libcurl drivers of an event loop, in one epoll that the loop watches.

Idle connections stay registered, because most serve another request immediately; the kernel removes closed
ones. All drivers share one epoll, because with hundreds of providers each would be woken for one event.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Protocol

import pycurl


class Owner(Protocol):
    """A driver, which gets the events of its sockets."""

    active: set[int]
    """The sockets for whose events a transfer waits; all others are idle."""

    def act(self, number: int, ready: int) -> None:
        """A transfer may continue. `ready` are the events of its socket in libcurl's form."""

    def on_idle_event(self, number: int, events: int) -> None:
        """Something happened on an idle connection."""

    def on_events_handled(self) -> None:
        """Called once after some calls of `act`."""

    def on_turn(self) -> None:
        """Called once after `call_soon`."""


class Sockets:
    """A failure of one driver does not stop the others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._owners: dict[int, Owner] = {}
        """By socket. The last one that registered a number has it."""
        self._drivers = 0
        self._waiting: list[Owner] = []
        """The drivers that want a turn in the next iteration of the event loop."""
        self.has_new = False
        """Whether a transfer was started that has no connection yet."""
        loop.add_reader(self._epoll.fileno(), self._on_events)

    @classmethod
    def join(cls) -> Sockets:
        """Return those of the running event loop. Call `leave` at the end."""
        loop = asyncio.get_running_loop()
        sockets = _of_loop.get(loop)
        if sockets is None:
            sockets = _of_loop[loop] = cls(loop)
        sockets._drivers += 1
        return sockets

    def leave(self, owner: Owner, numbers: Iterable[int]) -> None:
        """Forget the sockets of a driver, which may be closed already."""
        for number in numbers:
            if self._owners.get(number) is owner:
                del self._owners[number]
                with suppress(OSError):
                    self._epoll.unregister(number)
        self._drivers -= 1
        if not self._drivers:
            del _of_loop[self._loop]
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def watch(self, owner: Owner, number: int, events: int) -> None:
        """Wait for these events of a socket."""
        if self._owners.get(number) is owner:
            # `suppress` would take longer than the rest of this method.
            try:
                self._epoll.modify(number, events)
            except FileNotFoundError:
                pass  # another socket has this number by now
            else:
                return
        self._owners[number] = owner
        self._epoll.register(number, events)

    def forget(self, number: int) -> None:
        """Forget a socket that was closed."""
        self._owners.pop(number, None)

    def call_soon(self, owner: Owner) -> None:
        """Let a driver have a turn, together with the others that want one."""
        if not self._waiting:
            self._loop.call_soon(self._on_turn)
        self._waiting.append(owner)

    def _on_turn(self) -> None:
        if self.has_new:
            # A connection that received bytes while idle must not serve a new transfer.
            self.has_new = False
            if not self._epoll.closed:
                self._on_events()
        waiting, self._waiting = self._waiting, []
        for owner in waiting:
            self._call(owner.on_turn)

    def _on_events(self) -> None:
        owners = self._owners
        # All at once: otherwise the sockets of a busy server could keep others waiting, and an idle one with
        # bytes could be missed.
        ready = self._epoll.poll(0, max(1, len(owners)))
        # Idle ones first, because each call of libcurl may assign an idle connection to a new transfer.
        for number, events in ready:
            owner = owners.get(number)
            if owner is not None and number not in owner.active:
                self._call(owner.on_idle_event, number, events)
        handled: dict[Owner, None] = {}
        for number, events in ready:
            owner = owners.get(number)
            if owner is not None and number in owner.active:
                handled[owner] = None
                try:  # without `_call`, which each request would pay for
                    owner.act(number, _ready(events))
                except Exception as error:
                    self._report(error)
        for owner in handled:
            self._call(owner.on_events_handled)

    def _call(self, function: Callable[..., None], *arguments: int) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a driver of libcurl failed", "exception": error})


@cache
def _ready(events: int) -> int:
    """Return the events of epoll in libcurl's form."""
    ready = 0
    if events & (select.EPOLLIN | select.EPOLLHUP):
        ready |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        ready |= pycurl.CSELECT_OUT
    if events & select.EPOLLERR:
        ready |= pycurl.CSELECT_ERR
    return ready


_of_loop: dict[asyncio.AbstractEventLoop, Sockets] = {}
