"""The guard at work: what a connector needs so that it reaches no refused address.

Two places, because either alone has a gap. The resolver drops refused addresses of a *name*, so that
racing connections (happy eyeballs) never see them and the guard's words reach the dead letter. The
socket factory is asked for each connection there is: it also covers addresses written as such, which
are not resolved, and leaves no time between check and use, so a name can't be rebound in between.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from relay.http.guard import Network, refusal
from relay.http.resolver import ThreadResolver
from relay.http.transport import ForbiddenAddress

_ADVICE = "`allow_private` opens it"


class GuardedResolver(AbstractResolver):
    """Leaves out addresses that the guard refuses. Raises ForbiddenAddress where none is left."""

    def __init__(self, allowed: Sequence[Network], inner: AbstractResolver | None = None) -> None:
        """`inner` resolves; the system's resolver if None. Must be made where an event loop runs."""
        self._allowed = allowed
        self._inner = inner or ThreadResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        refusals = [refusal(result["host"], self._allowed) for result in found]
        if not found:
            raise OSError(None, "the name has no address")
        if all(refusals):
            raise ForbiddenAddress(f"{host}: {refusals[0]}; {_ADVICE}")
        return [result for result, why in zip(found, refusals, strict=True) if why is None]

    async def close(self) -> None:
        await self._inner.close()


def guarded_sockets(allowed: Sequence[Network]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """A socket factory for `aiohttp.TCPConnector`. It raises ForbiddenAddress."""

    def make(address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = address
        why = refusal(where[0], allowed)
        if why is not None:
            raise ForbiddenAddress(f"{why}; {_ADVICE}")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make
