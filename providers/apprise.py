"""The services that the library Apprise supports, each by a URL of its own.

Source: https://appriseit.com/. The library is the extra `apprise`; it works in a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Literal

import msgspec
from pydantic import field_validator

from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Retry
from relay.provider import Provider, Response, statuses
from relay.settings.options import ProviderOptions
from relay.settings.values import Secret
from relay.text import one_line

from ._shared.apprise_child import Answer, Call, Start
from ._shared.apprise_process import AppriseProcess
from ._shared.apprise_url import plugin_of

MOST_TITLE, MOST_BODY = 1_000, 100_000
"""Characters of a title and of a body."""

_LONGEST = 300
"""Characters of Apprise's log lines in a reason."""

_STATUS = re.compile(r"\berror=([1-5][0-9]{2})\b")


class AppriseOptions(ProviderOptions):
    """Options of `type: apprise`."""

    url: Secret
    """Apprise's URL of one service with its credentials, such as `discord://ID/TOKEN`."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: Secret) -> Secret:
        plugin_of(value.get_secret_value())
        return value


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    """Null is the same as absent."""

    body: str | None = None
    title: str | None = None
    type: Literal["info", "success", "warning", "failure"] | None = None
    format: Literal["text", "markdown", "html"] | None = None


_PAYLOAD = msgspec.json.Decoder(_Payload)


class Apprise(Provider[AppriseOptions]):
    """Sends through any service that Apprise supports (extra `apprise`)."""

    Options = AppriseOptions

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        start = Start(options.url.get_secret_value(), options.timeout, options.concurrency)
        self._process = AppriseProcess(start)
        self._numbers = count(1)

    async def close(self) -> None:
        await self._process.close()

    def check(self, message: Message) -> Rejected | None:
        try:
            payload = _PAYLOAD.decode(message.payload_json)
        except msgspec.ValidationError as error:
            text, _, path = str(error).replace(" | null`", "`").partition(" - at `$.")
            field = path.strip("`")
            return Rejected(f"{field}: {text.lower()}" if field else text[0].lower() + text[1:])
        title, body = payload.title or "", payload.body or ""
        if not body.strip() and not title.strip():
            return Rejected("body: missing (a title on its own is enough)")
        for field, text, most in (("title", title, MOST_TITLE), ("body", body, MOST_BODY)):
            if len(text) > most:
                return Rejected(f"{field}: {len(text)} characters; at most {most} are sent")
        return None

    def alert_payload(self, alert: Mapping[str, object]) -> Mapping[str, object]:
        """The beginning of the text becomes the title."""
        title, _, body = str(alert["text"]).partition(": ")
        kind = "success" if alert["status"] == "resolved" else "failure"
        return {"title": title, "body": body or title, "type": kind, "format": "text"}

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        (message,) = batch
        payload = _PAYLOAD.decode(message.payload_json)
        title, body, kind = payload.title or "", payload.body or "", payload.type or "info"
        call = Call(next(self._numbers), body, title, kind, payload.format)
        return [outcome(await self._process.call(call))]

    async def verify(self) -> str:
        """Sends nothing, because Apprise has no way to ask a service whether it would accept."""
        service = plugin_of(self.options.url.get_secret_value()).service_name
        return f"nothing was sent; Apprise knows the url as one of {service}"


def outcome(answer: Answer) -> Outcome:
    """The outcome of a call: whether it worked, otherwise by the HTTP status in its last log line with one.

    Credentials and target are in the configured URL, so the operator has to fix a refusal of either.
    """
    if answer.delivered:
        return Delivered()
    lines = [one_line(line) for line in answer.lines]
    why = one_line("; ".join(dict.fromkeys(lines)), _LONGEST) or "Apprise gave no reason"
    status = next((int(found[1]) for line in reversed(lines) if (found := _STATUS.search(line))), 0)
    if not status:
        return Retry(why)
    response = Response(status)
    if status in statuses.OURS:
        why += " (check `url`)"
    return statuses.outcome(response, why, now=0.0, ours=statuses.OURS)
