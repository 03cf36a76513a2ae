"""Opens the sockets of requests whose URL came with a message, if the guard permits their addresses.

libcurl calls it for each address right before it connects (CURLOPT_OPENSOCKETFUNCTION), after all parsing and
name resolution. So neither the spelling of a URL nor a later change of the name can evade it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pycurl

from relay.http.guard import Network, refusal

MAX_ADDRESSES = 64
"""Maximum number of addresses of a name: a name server can return thousands."""


class SocketGuard:
    """Opens sockets to permitted addresses for one request, and records why others were refused."""

    __slots__ = ("_allowed", "_opened", "_tried", "errno", "refused")

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self.reset()

    def reset(self) -> None:
        self._tried = 0
        self._opened = False
        self.refused: str | None = None
        """The reason for the first refused address."""
        self.errno = 0
        """The error number of the first socket that could not be opened; 0 if none failed."""

    @property
    def forbids(self) -> bool:
        """Whether every address was refused."""
        return self.refused is not None and not self._opened

    def open(self, _purpose: int, address: Any) -> socket.socket | int:
        """CURLOPT_OPENSOCKETFUNCTION."""
        self._tried += 1
        if self._tried > MAX_ADDRESSES:
            return int(pycurl.SOCKET_BAD)
        why = refusal(address.addr[0], self._allowed)
        if why is not None:
            self.refused = self.refused or why
            return int(pycurl.SOCKET_BAD)
        self._opened = True
        try:
            return socket.socket(address.family, address.socktype, address.protocol)
        except OSError as error:
            self.errno = error.errno or 0
            return int(pycurl.SOCKET_BAD)
