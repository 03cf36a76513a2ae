"""Apprise: the hundred-odd services that its library speaks to, each by a URL of its own.

Source: https://appriseit.com/. The library is the extra `apprise`; it blocks, so it works in threads.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import field_validator

from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.provider import Provider
from relay.settings.provider import ProviderOptions
from relay.settings.types import Secret

if TYPE_CHECKING:
    from apprise import AppriseResult, NotifyBase

    from relay.http.transport import Transport

EXTRA = "the library Apprise is not installed: pip install 'relay-push[apprise]'"

_LONGEST = 300
"""Characters of Apprise's log lines in a reason."""

_STATUS = re.compile(r"\berror=([1-5][0-9]{2})\b")


class AppriseOptions(ProviderOptions):
    """What `type: apprise` takes."""

    url: Secret
    """Apprise's URL of one service, such as discord://ID/TOKEN; its credentials are in it."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: Secret) -> Secret:
        _plugin(value)
        return value


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    body: str = ""
    title: str = ""
    type: Literal["info", "success", "warning", "failure"] = "info"
    format: Literal["text", "markdown", "html"] | None = None


_PAYLOAD = msgspec.json.Decoder(_Payload)


class Apprise(Provider[AppriseOptions]):
    """Any service of the library Apprise, by its URL (the extra `apprise`)."""

    Options = AppriseOptions

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._plugin = _plugin(self.options.url, self.options.timeout)
        self._threads: ThreadPoolExecutor | None = None

    async def start(self, transport: Transport) -> None:
        # Threads come with the first messages: an idle provider has none.
        self._threads = ThreadPoolExecutor(self.options.concurrency, f"apprise-{self.name}")

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def check(self, message: Message) -> Rejected | None:
        try:
            payload = _PAYLOAD.decode(message.payload_json)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$.")
            field = path.strip("`")
            return Rejected(f"{field}: {text.lower()}" if field else text[0].lower() + text[1:])
        if not payload.body.strip() and not payload.title.strip():
            return Rejected("body: missing (a title alone would do)")
        return None

    def group(self, message: Message) -> Hashable:
        return None

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        (message,) = batch
        assert self._threads is not None
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._threads, self._notify, message)]

    def _notify(self, message: Message) -> Outcome:
        """Runs in a thread, as long as Apprise takes: its own time-outs end it."""
        from apprise import Apprise as Library

        payload = _PAYLOAD.decode(message.payload_json)
        library = Library()
        library.add(self._plugin)
        result = library.notify(
            payload.body,
            payload.title,
            notify_type=payload.type,
            body_format=payload.format,
            interpret_escapes=False,
        )
        return outcome(result)

    async def verify(self) -> str:
        """Sends nothing: Apprise has no way to ask a service whether it would accept."""
        return f"nothing was sent; Apprise knows the url as one of {self._plugin.service_name}"


def outcome(result: AppriseResult) -> Outcome:
    """What Apprise lets one tell: whether it worked, else by the HTTP status in its last log line of it.

    Credentials and target are in the configured URL, so that a refusal of either is ours to mend.
    """
    if result:
        return Delivered()
    lines = [" ".join(entry.message.split()) for entry in result.logs()]
    why = "; ".join(dict.fromkeys(lines))[:_LONGEST] or "Apprise does not say why"
    why = "".join(character if character.isprintable() else "?" for character in why)
    status = next((int(found[1]) for line in reversed(lines) if (found := _STATUS.search(line))), 0)
    match status:
        case 429:
            return Throttled(why, None, status)
        case 401 | 403 | 404 | 410:
            return Unauthorised(f"{why} (check `url`)", status)
        case 408:
            return Retry(why, status)
        case _ if 400 <= status < 500:
            return Rejected(why, status)
    return Retry(why, status)


def _plugin(url: Secret, timeout: float | None = None) -> NotifyBase:
    """Apprise's object for a URL. Raises ValueError, without a word of the URL.

    `timeout` in seconds is for connecting and reading together, where the URL does not say it itself.
    """
    try:
        from apprise import Apprise as Library
        from apprise import AppriseAsset
    except ImportError:
        raise ValueError(EXTRA) from None
    text = url.get_secret_value()
    # Not `async_mode`: that is a pool of threads of its own, beside ours.
    plugin = Library.instantiate(text, asset=AppriseAsset(async_mode=False))
    if plugin is None:
        scheme = text.partition("://")[0] if "://" in text else ""
        known = f"a {scheme}:// URL" if re.fullmatch(r"[a-z0-9]{1,20}", scheme) else "a URL"
        raise ValueError(f"is not {known} that Apprise knows; see https://appriseit.com/services/")
    if timeout is not None and not re.search(r"[?&][cr]to=", text):
        plugin.socket_connect_timeout = plugin.socket_read_timeout = timeout / 2
    return plugin
