"""One request in flight through libcurl."""

from __future__ import annotations

from collections.abc import Callable

import pycurl

from relay.http.curl_handle import CurlHandle
from relay.http.curl_multi import Multi
from relay.http.transport import OnDone


class CurlTransfer:
    """The `PendingRequest` of one request. Its handle may serve another provider as soon as it has ended."""

    __slots__ = ("_cancel", "_end", "handle", "multi", "on_done", "started_at")

    def __init__(
        self,
        handle: CurlHandle,
        multi: Multi,
        on_done: OnDone,
        on_end: Callable[[CurlTransfer, pycurl.error | None], None],
        cancel: Callable[[CurlTransfer], None],
    ) -> None:
        """`on_end` and `cancel` are called with this transfer."""
        self.handle = handle
        self.multi = multi
        self.on_done: OnDone | None = on_done
        """The callback, while the request is in flight."""
        self._end = on_end
        self._cancel = cancel
        self.started_at: float
        """Start time in monotonic seconds, if the transport needs it."""

    def start(self) -> None:
        """Start the prepared request. Raises pycurl.error."""
        self.multi.start(self.handle.curl, self._on_end)

    def cancel(self) -> None:
        """Abort the request. Does nothing if it has ended."""
        self._cancel(self)

    def _on_end(self, error: pycurl.error | None) -> None:
        self._end(self, error)
