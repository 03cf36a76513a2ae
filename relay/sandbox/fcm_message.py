"""The `message` of FCM's HTTP v1 API, in both of the spellings that Google's JSON allows.

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError
from pydantic.alias_generators import to_camel

LARGEST, LARGEST_TO_TOPIC = 4096, 2048
"""Bytes of a payload: keys and values of `data`, and the notification."""

LONGEST_LIFE = 2_419_200
"""Seconds: four weeks."""

_DURATION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?s")
_TOPIC = r"[a-zA-Z0-9\-_.~%]+"
_IN_TOPICS = re.compile(rf"'{_TOPIC}' in topics")
_RESERVED = re.compile(r"from|message_type|(?:google|gcm).*", re.DOTALL)


class Wrong(Exception):
    """A message is wrong: the field at fault, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


def _life(text: str) -> str:
    if not _DURATION.fullmatch(text) or float(text[:-1]) > LONGEST_LIFE:
        raise ValueError(f'must be a duration such as "3600s", at most {LONGEST_LIFE} s')
    return text


def _condition(text: str) -> str:
    """Check a condition: at most five topics, joined by `&&`, `||`, `!` and matching brackets."""
    rest, topics = _IN_TOPICS.subn("T", text)
    shape = re.sub(r"\s", "", rest)
    while (shorter := re.sub(r"!T|\(T\)|T(?:&&|\|\|)T", "T", shape)) != shape:
        shape = shorter
    if shape != "T" or topics > 5:
        raise ValueError("must be such as \"'a' in topics && 'b' in topics\", of at most five topics")
    return text


def _data(values: dict[str, str]) -> dict[str, str]:
    for name in values:
        if _RESERVED.fullmatch(name):
            raise ValueError(f"Invalid data payload key: {name[:60]}")
    return values


def _https(text: str) -> str:
    if not text.startswith("https://"):
        raise ValueError("must be a https URL")
    return text


Text = StrictStr | None
Texts = dict[StrictStr, StrictStr]
Data = Annotated[Texts, AfterValidator(_data)]
Anything = dict[str, Any] | None


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        loc_by_alias=False,
        extra="forbid",
    )


class Options(_Part):
    """`fcm_options`, of the message and of each platform."""

    analytics_label: Annotated[StrictStr, Field(pattern=r"^[a-zA-Z0-9\-_.~%]{1,50}$")] | None = None


class ApnsOptions(Options):
    image: Text = None


class WebOptions(Options):
    link: Annotated[StrictStr, AfterValidator(_https)] | None = None


class Notification(_Part):
    title: Text = None
    body: Text = None
    image: Text = None


class Android(_Part):
    collapse_key: Text = None
    priority: Annotated[StrictStr, Field(pattern=r"^(NORMAL|HIGH|normal|high)$")] | None = None
    ttl: Annotated[StrictStr, AfterValidator(_life)] | None = None
    restricted_package_name: Text = None
    data: Data | None = None
    notification: Anything = None
    fcm_options: Options | None = None
    direct_boot_ok: StrictBool | None = None
    bandwidth_constrained_ok: StrictBool | None = None
    restricted_satellite_ok: StrictBool | None = None


class Apns(_Part):
    headers: Texts | None = None
    payload: Anything = None
    fcm_options: ApnsOptions | None = None
    live_activity_token: Text = None


class WebPush(_Part):
    headers: Texts | None = None
    data: Data | None = None
    notification: Anything = None
    fcm_options: WebOptions | None = None


class FcmMessage(_Part):
    """One message. Exactly one of token, topic, condition and fid is its target."""

    token: Text = None
    topic: Annotated[StrictStr, Field(pattern=f"^{_TOPIC}$")] | None = None
    condition: Annotated[StrictStr, AfterValidator(_condition)] | None = None
    fid: Text = None
    name: Text = None
    data: Data | None = None
    notification: Notification | None = None
    android: Android | None = None
    apns: Apns | None = None
    webpush: WebPush | None = None
    fcm_options: Options | None = None

    def target(self) -> tuple[str, str]:
        """Return the kind of target and the target. Raises Wrong unless there is exactly one."""
        found = [(kind, getattr(self, kind)) for kind in ("token", "topic", "condition", "fid")]
        found = [(kind, value) for kind, value in found if value]
        if len(found) != 1:
            problem = (
                "Recipient of the message is not set." if not found else "More than one recipient is set."
            )
            raise Wrong("message", f"{problem} Exactly one of token, topic, condition and fid is needed.")
        return found[0]

    def size(self) -> int:
        """Return the bytes of the payload."""
        size = sum(len(key.encode()) + len(value.encode()) for key, value in (self.data or {}).items())
        if self.notification is not None:
            size += len(msgspec.json.encode(self.notification.model_dump(exclude_none=True)))
        return size


def is_silent_with_high_priority(message: FcmMessage) -> bool:
    """Return whether APNs would refuse the priority. FCM then answers that the token is invalid.

    A push about a Live Activity is never silent.
    """
    headers = (message.apns.headers if message.apns else None) or {}
    if {name.lower(): value for name, value in headers.items()}.get("apns-priority") != "10":
        return False
    payload = (message.apns.payload if message.apns else None) or {}
    aps = payload.get("aps")
    loud = ("alert", "badge", "sound", "event")
    shown = isinstance(aps, dict) and any(aps.get(name) is not None for name in loud)
    return message.notification is None and not shown


def read(document: Mapping[str, Any]) -> FcmMessage:
    """Read the message of a request. Raises Wrong."""
    try:
        message = FcmMessage.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["message", *(str(part) for part in first["loc"] if part != "[key]")])
        if first["type"] == "extra_forbidden":
            where, _, name = path.rpartition(".")
            raise Wrong(where, f"Unknown name \"{name[:60]}\" at '{where}': Cannot find field.") from None
        raise Wrong(path, first["msg"].removeprefix("Value error, ")) from None
    kind, _ = message.target()
    largest = LARGEST if kind in ("token", "fid") else LARGEST_TO_TOPIC
    if message.size() > largest:
        raise Wrong("message", f"Message too big: {message.size()} bytes, {largest} are allowed to a {kind}.")
    return message
