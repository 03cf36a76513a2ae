"""The idle easy handles of all providers whose options are equal.

A message of a lane that is in flight needs a handle, and each lane has its busiest moment at another time. So
providers that share handles need fewer of them, and those that serve many requests stay in the processor's
caches. Connections are never shared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from relay.http.curl_handle import CurlHandle


class HandlePool:
    """Handles with equal options."""

    def __init__(self, key: Hashable, new: Callable[[], CurlHandle]) -> None:
        self._key = key
        self._new = new
        self._idle: list[CurlHandle] = []
        self._users = 0

    @classmethod
    def join(cls, key: Hashable, new: Callable[[], CurlHandle]) -> HandlePool:
        """Return the pool of handles with these options, which `new` creates. Call `leave` at the end."""
        pool = _by_key.get(key)
        if pool is None:
            pool = _by_key[key] = cls(key, new)
        pool._users += 1
        return pool

    def leave(self) -> None:
        """Give up a share of the idle handles, as one of the users of the pool."""
        del self._idle[: len(self._idle) // self._users]
        self._users -= 1
        if not self._users:
            del _by_key[self._key]

    def take(self) -> CurlHandle:
        """Return an idle handle, or a new one."""
        return self._idle.pop() if self._idle else self._new()

    def put_back(self, handle: CurlHandle) -> None:
        """Keep a handle whose request has ended well."""
        self._idle.append(handle)


_by_key: dict[Hashable, HandlePool] = {}
