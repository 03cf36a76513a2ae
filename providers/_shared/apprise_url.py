"""Apprise's object for a URL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from relay.extras import install

if TYPE_CHECKING:
    from apprise import NotifyBase

EXTRA = f"the library Apprise is not installed: {install('apprise')}"


def plugin_of(url: str, timeout: float | None = None) -> NotifyBase:
    """Return the object. Raises ValueError, whose text contains no part of the URL.

    `timeout` in seconds is for connecting and reading together, unless the URL has its own.
    """
    try:
        from apprise import Apprise as Library
        from apprise import AppriseAsset
    except ImportError:
        raise ValueError(EXTRA) from None
    # `async_mode` would start a second pool of threads.
    plugin = Library.instantiate(url, asset=AppriseAsset(async_mode=False, http_redirects=False))
    if plugin is None:
        scheme = url.partition("://")[0] if "://" in url else ""
        known = f"a {scheme}:// URL" if re.fullmatch(r"[a-z0-9]{1,20}", scheme) else "a URL"
        raise ValueError(f"is not {known} that Apprise knows; see https://appriseit.com/services/")
    if timeout is not None and not re.search(r"[?&][cr]to=", url):
        plugin.socket_connect_timeout = plugin.socket_read_timeout = timeout / 2
    return plugin
