"""The URL of a request in the form in which libcurl gets it."""

from __future__ import annotations

import re

from yarl import URL

from relay.http.validate import check_origin

_EXACT = re.compile(r"[!-~]+")
_LOWER_CASE_ESCAPE = re.compile(r"%(?:[a-f]|.[a-f])")


class WireUrl:
    """A checked URL. Each transport keeps its last one, because many providers have just one."""

    __slots__ = ("_through_proxy", "has_own_target", "on_wire", "text")

    def __init__(self, text: str, *, proxied: bool = False) -> None:
        """`proxied`: requests go through a proxy. Raises Unsendable."""
        check_origin(text)
        self.text = text
        self.on_wire = text if _EXACT.fullmatch(text) else str(URL(text))
        """The URL as it was written. Only characters that no URL may contain are quoted."""
        self._through_proxy = proxied and text.startswith("http:")
        """Whether a proxy gets the whole URL, because it opens no tunnel."""
        self.has_own_target = bool(_LOWER_CASE_ESCAPE.search(self.on_wire)) and not self._through_proxy
        """Whether libcurl must get `target`: it rewrites %2f as %2F, but a signature may cover the URL."""

    @property
    def target(self) -> str:
        """The target of the request line: path and query, or the whole URL for a proxy without a tunnel."""
        scheme, _, rest = self.on_wire.partition("#")[0].partition("://")
        start = min((index for index in (rest.find("/"), rest.find("?")) if index >= 0), default=len(rest))
        path = rest[start:] if rest[start:].startswith("/") else f"/{rest[start:]}"
        if not self._through_proxy:
            return path
        host = rest[:start].rpartition("@")[2]
        return f"{scheme}://{host}{path}"
