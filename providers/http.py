"""One templated request: for the many APIs that need no adapter of their own.

The file says what the request is made of; each message fills its gaps (`relay.settings.template`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import HttpProvider, Request, Response
from relay.provider.retry_after import LONGEST, retry_after
from relay.settings.formatting import describe
from relay.settings.http import HttpOptions
from relay.settings.options import Options
from relay.settings.template import Template
from relay.settings.values import Secret

from ._shared.answers import decoded, reason
from ._shared.filling import (
    UrlFiller,
    Values,
    compile_json,
    fill_form,
    fill_header,
    fill_json,
    fill_text,
)
from ._shared.json_text import compile_json_text, fill_json_text
from ._shared.webhook_limits import check_headers, check_url

_RANGE = re.compile(r"([1-5][0-9]{2}) ?- ?([1-5][0-9]{2})")
_FIELD = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"


def _as_ranges(value: object) -> object:
    """Codes and ranges of them, such as 404 and 200-299. Raises ValueError."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(_range(entry) for entry in entries)


def _range(entry: object) -> range:
    if isinstance(entry, range):
        return entry
    if isinstance(entry, int) and not isinstance(entry, bool) and 100 <= entry <= 599:
        return range(entry, entry + 1)
    found = _RANGE.fullmatch(entry.strip()) if isinstance(entry, str) else None
    if found is None or found[1] > found[2]:
        raise ValueError(
            f"{describe(entry)} is no status; write a code such as 404 or a range such as 200-299"
        )
    return range(int(found[1]), int(found[2]) + 1)


Statuses = Annotated[
    tuple[Any, ...],
    BeforeValidator(_as_ranges),
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "integer", "minimum": 100, "maximum": 599},
                    {"type": "string", "pattern": _RANGE.pattern},
                ]
            },
            "examples": [["200-299", 404]],
        }
    ),
]
"""Ranges of HTTP statuses."""

Scalar = str | int | float | bool | None
Answers = dict[Annotated[str, Field(pattern=_FIELD)], Scalar | list[Scalar]]
"""Fields of a JSON answer (`error.code`), each with what it must be, or a list of what it may be."""


class StatusOptions(Options):
    """The meanings of statuses; one in no list goes by the table in docs/providers/http.md."""

    success: Statuses = ()
    """Delivered, besides 200-299."""
    retry: Statuses = ()
    """Tried again later, besides 408 and 500-599."""
    reject: Statuses = ()
    """A dead letter at once, besides all statuses that have no other meaning."""
    throttled: Statuses = ()
    """The lane holds for as long as Retry-After says, besides 429 and 503 with Retry-After."""
    unauthorised: Statuses = ()
    """Our credentials are wrong and the lane holds, besides 401."""
    unregistered: Statuses = ()
    """The target is gone: feedback. Needs `target_field`."""

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        found: dict[int, str] = {}
        for kind in type(self).model_fields:
            for status in self.listed(kind):
                if found.setdefault(status, kind) != kind:
                    raise ValueError(f"{status} is in both `{found[status]}` and `{kind}`; keep one")
        return self

    def listed(self, kind: str) -> list[int]:
        """All statuses of one list."""
        return [status for statuses in getattr(self, kind) for status in statuses]


class HttpRequestOptions(HttpOptions):
    """Options of `type: http`."""

    url: Template
    """Where the request goes; a message can fill its path and its query."""
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    """The method."""
    headers: dict[str, Template] = {}
    """Sent with each request."""
    body: Template | list[Any] | dict[str, Any] | None = None
    """A mapping or a list goes out as JSON, a text as it is. Absent: the payload itself, as JSON."""
    form: dict[str, Template] | None = None
    """Fields of a form (application/x-www-form-urlencoded), instead of `body`."""
    secret: Secret | None = None
    """What `${provider.secret}` stands for in url, headers, body and form."""
    statuses: StatusOptions = StatusOptions()
    """Statuses of answers whose meaning differs from the usual one."""
    success_if: Answers = {}
    """Fields that the JSON of a success has, such as {ok: true}; without them the message is rejected."""
    retry_if: Answers = {}
    """Fields of an answer that does not match `success_if` and is worth another attempt."""
    unauthorised_if: Answers = {}
    """Fields of an answer that does not match `success_if` because our credentials are wrong."""
    wait_field: Annotated[str, Field(pattern=_FIELD)] | None = None
    """Where a JSON answer says for how many seconds to wait; Retry-After wins."""
    target_field: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """The payload's field that each of a message's `targets` fills. Absent: no fan-out."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: Template) -> Template:
        check_url(UrlFiller(value).sample)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, Template]) -> dict[str, Template]:
        literal = {
            # Space at the ends goes away once the gaps are filled.
            name: "".join(part for part in template.parts if isinstance(part, str)).strip(" \t")
            for name, template in value.items()
        }
        check_headers(literal, frozenset())
        if len({name.lower() for name in value}) != len(value):
            raise ValueError("headers: one of them stands here twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.body is not None and self.form is not None:
            raise ValueError("`body` and `form` are both there; keep one")
        if self.statuses.unregistered and self.target_field is None:
            raise ValueError("`statuses.unregistered` needs `target_field`, whose value is reported")
        if (self.retry_if or self.unauthorised_if) and not self.success_if:
            raise ValueError("`retry_if` and `unauthorised_if` need `success_if`")
        return self


class Http(HttpProvider[HttpRequestOptions]):
    """One HTTP request made by a template, for APIs that need no more."""

    Options = HttpRequestOptions

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        self._url = UrlFiller(options.url)
        self._json, self._json_text = None, None
        if isinstance(options.body, Template):
            self._json_text = compile_json_text(options.body.parts)
        else:
            self._json = compile_json(options.body)
        self._kinds = {
            status: kind for kind in StatusOptions.model_fields for status in options.statuses.listed(kind)
        }
        self._provider = {"name": self.name}
        if options.secret is not None:
            self._provider["secret"] = options.secret.get_secret_value()
        self.target_field = options.target_field or ""

    def check(self, message: Message) -> Rejected | None:
        try:
            self._request(message)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def group(self, message: Message) -> Hashable:
        return None

    def request(self, batch: Sequence[Message]) -> Request:
        (message,) = batch
        return self._request(message)

    def _request(self, message: Message) -> Request:
        """Raises ValueError where the message does not fill the template."""
        values = Values(message, self._provider, self.clock())
        url = self._url.fill(values)
        headers = {
            name.lower(): fill_header(name, template, values)
            for name, template in self.options.headers.items()
        }
        body, content_type = self._body(message, values)
        if content_type:
            headers.setdefault("content-type", content_type)
        if message.traceparent:
            headers.setdefault("traceparent", message.traceparent)
        return Request(url, body, headers, self.options.method)

    def _body(self, message: Message, values: Values) -> tuple[bytes, str]:
        """The body and its type, which is empty where there is no body."""
        options = self.options
        if options.form is not None:
            return fill_form(options.form, values), "application/x-www-form-urlencoded"
        if isinstance(options.body, Template):
            if self._json_text is not None:
                text = fill_json_text(self._json_text, values)
            else:
                text = fill_text(options.body, values).encode()
            return text, "text/plain; charset=utf-8" if text else ""
        if self._json is not None:
            return fill_json(self._json, values), "application/json"
        if options.method in ("GET", "DELETE"):
            return b"", ""
        return message.payload_json, "application/json"

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        return [self._outcome(message, response)]

    def _outcome(self, message: Message, response: Response) -> Outcome:
        status, why = response.status, reason(response)
        match self._kinds.get(status) or _usual(response):
            case "success":
                return self._of_success(response, why)
            case "throttled":
                return Throttled(why, self._wait(response), status, response.body)
            case "retry":
                return Retry(why, status, response.body, self._wait(response))
            case "unauthorised":
                return Unauthorised(why, status, response.body)
            case "unregistered":
                return Unregistered(self._target(message), why, status)
            case "reject" if 300 <= status < 400:
                why += " (redirects are not followed)"
        return Rejected(why, status, response.body)

    def _target(self, message: Message) -> str:
        target = message.payload.get(self.target_field)
        return target if isinstance(target, str) else (message.raw(self.target_field) or b"").decode()

    def _of_success(self, response: Response, why: str) -> Outcome:
        """A success by its status may still say otherwise in its body."""
        if not self.options.success_if:
            return Delivered()
        answer = decoded(response.body)
        if answer is None:
            return Retry(f"{why} (`success_if` needs an answer in JSON)", response.status, response.body)
        if _holds(self.options.success_if, answer, all):
            return Delivered()
        if _holds(self.options.unauthorised_if, answer, any):
            return Unauthorised(why, response.status, response.body)
        if _holds(self.options.retry_if, answer, any):
            return Retry(why, response.status, response.body, self._wait(response))
        return Rejected(why, response.status, response.body)

    def _wait(self, response: Response) -> float | None:
        """Seconds that the answer asks for."""
        asked = retry_after(response.headers, self.clock())
        if asked is None and self.options.wait_field is not None:
            found = _at(self.options.wait_field, decoded(response.body))
            if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0:
                asked = min(LONGEST, float(found))
        return asked

    async def verify(self) -> str:
        """Sends nothing: what an API would accept is known to itself alone."""
        return f"nothing was sent; requests go to {self._url.origin}"


def _usual(response: Response) -> str:
    """The usual meaning of a status."""
    status = response.status
    if status == 503 and "retry-after" in response.headers:
        return "throttled"
    if status == 408 or status >= 500 or status < 200:
        return "retry"
    if status < 300:
        return "success"
    return {429: "throttled", 401: "unauthorised"}.get(status, "reject")


def _at(path: str, tree: Any) -> Any:
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _holds(rules: Mapping[str, Any], answer: Any, how_many: Callable[[Iterable[bool]], bool]) -> bool:
    """Whether all (or any) fields are what the rules say; a list is of what a field may be."""
    return how_many(
        # As JSON, where 1 and true are not the same.
        msgspec.json.encode(_at(path, answer))
        in [msgspec.json.encode(value) for value in (wanted if isinstance(wanted, list) else [wanted])]
        for path, wanted in rules.items()
    )
