"""One templated request for each message, for APIs that need no adapter of their own.

The configuration describes the request, and each message fills its gaps (`relay.settings.template`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import Field, field_validator, model_validator

from relay.http.response_body import DAMAGED, TOO_LONG
from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Retry, ThrottleScope, Unauthorised
from relay.provider import Request, Response, statuses
from relay.provider.retry_after import LONGEST, retry_after
from relay.provider.statuses import Meaning
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
from ._shared.http_credentials import refusals_of_ours
from ._shared.json_text import compile_json_text, fill_json_text
from ._shared.oauth2 import AuthorisedOptions, AuthorisedProvider
from ._shared.status_options import StatusOptions
from ._shared.webhook_limits import check_headers, check_url

_FIELD = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"


Scalar = str | int | float | bool | None
Answers = dict[Annotated[str, Field(pattern=_FIELD)], Scalar | list[Scalar]]
"""Fields of a JSON answer (`error.code`), each with the value or the list of values that it may have."""


class HttpRequestOptions(AuthorisedOptions):
    """Options of `type: http`."""

    url: Template
    """URL of the request. A message can fill its path and query."""
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    """Method of the request."""
    headers: dict[str, Template] = {}
    """Headers of each request. Without `content-type`, relay adds the one that fits the body."""
    body: Template | list[Any] | dict[str, Any] | None = None
    """Body of each request. A mapping or list is sent as JSON, a text unchanged. Default: the payload as
    JSON."""
    form: dict[str, Template] | None = None
    """Fields of a form (application/x-www-form-urlencoded), instead of `body`."""
    secret: Secret | None = None
    """Value of `${provider.secret}` in `url`, `headers`, `body` and `form`."""
    statuses: StatusOptions = StatusOptions()
    """Statuses whose meaning differs from the table of answers. `unregistered` needs `target_field`."""
    success_if: Answers = {}
    """Fields that the JSON of a success must have, such as `{ok: true}`. Without them the message is
    rejected."""
    retry_if: Answers = {}
    """Retry if the answer does not match `success_if` and has one of these fields."""
    unauthorised_if: Answers = {}
    """Treat the answer as 401 if it does not match `success_if` and has one of these fields."""
    wait_field: Annotated[str, Field(pattern=_FIELD)] | None = None
    """Field of a JSON answer with the seconds to wait. Retry-After takes precedence."""
    throttled: ThrottleScope = "provider"
    """Scope of a throttled answer: `provider` holds the lane (with groups, the group), `target` delays only
    the message, for APIs that limit each receiver."""
    target_field: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """Field of the payload that each entry of `targets` fills. Default: no fan-outs."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: Template) -> Template:
        check_url(UrlFiller(value).sample)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, Template]) -> dict[str, Template]:
        literal = {
            # Space at the ends is removed when the gaps are filled.
            name: "".join(part for part in template.parts if isinstance(part, str)).strip(" \t")
            for name, template in value.items()
        }
        check_headers(literal, frozenset())
        if len({name.lower() for name in value}) != len(value):
            raise ValueError("headers: the same name is listed twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.body is not None and self.form is not None:
            raise ValueError("`body` and `form` are both set; keep one")
        if self.statuses.unregistered and self.target_field is None:
            raise ValueError("`statuses.unregistered` needs `target_field`, whose value is reported")
        if (self.retry_if or self.unauthorised_if) and not self.success_if:
            raise ValueError("`retry_if` and `unauthorised_if` need `success_if`")
        return self


class Http(AuthorisedProvider[HttpRequestOptions]):
    """Sends each message in one HTTP request that a template describes."""

    passes_trace_on = True

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
        self._meanings = options.statuses.meanings()
        self._ours = refusals_of_ours(
            options.url,
            options.headers,
            options.body if options.form is None else options.form,
            authenticated=options.client_cert is not None or options.oauth2 is not None,
        )
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

    def request(self, batch: Sequence[Message]) -> Request:
        (message,) = batch
        return self._request(message)

    def _request(self, message: Message) -> Request:
        """Raises ValueError if the message does not fill the template."""
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
        """The body and its type, which is empty if there is no body."""
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
        status = response.status
        if 200 <= status < 300 and status not in self._meanings and not self.options.success_if:
            return Delivered()
        found = self._meanings.get(status) or statuses.meaning(response, self._ours)
        if found is not Meaning.SUCCESS:
            wait, target = self._wait(response), self._target(message)
            return statuses.outcome_of(
                found, response, reason(response), wait, target, scope=self.options.throttled
            )
        if self.options.success_if:
            return self._of_success(message, response, reason(response))
        return Delivered()

    def _target(self, message: Message) -> str:
        if not self.target_field:
            return ""
        target = message.payload.get(self.target_field)
        return target if isinstance(target, str) else (message.raw(self.target_field) or b"").decode()

    def _of_success(self, message: Message, response: Response, why: str) -> Outcome:
        """The outcome by the body of a response whose status is a success."""
        status, body = response.status, response.body
        answer = decoded(body)
        if answer is None:
            return self._unreadable(response, why)
        if _holds(self.options.success_if, answer, all):
            return Delivered()
        if _holds(self.options.unauthorised_if, answer, any):
            return Unauthorised(why, status, body, self._target(message))
        if _holds(self.options.retry_if, answer, any):
            return Retry(why, status, body, self._wait(response))
        return Rejected(why, status, body)

    def _unreadable(self, response: Response, why: str) -> Outcome:
        """The outcome of a success that `success_if` cannot judge.

        The API has accepted the request, so a retry is a duplicate, unless the response was only cut short.
        """
        if response.incomplete in (None, TOO_LONG, DAMAGED):
            what = response.incomplete or "the answer is not JSON"
            return Rejected(f"{why} (`success_if`: {what})", response.status, response.body)
        return Retry(f"{why} (`success_if`: {response.incomplete})", response.status, response.body)

    def _wait(self, response: Response) -> float | None:
        """Seconds that the answer asks for."""
        asked = retry_after(response.headers, self.clock())
        if asked is None and self.options.wait_field is not None:
            found = _at(self.options.wait_field, decoded(response.body))
            if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0:
                asked = min(LONGEST, float(found))
        return asked

    async def verify(self) -> str:
        """Sends nothing, because relay cannot know which requests the API would accept."""
        return f"nothing was sent; requests go to {self._url.origin}{await self.verify_token()}"


def _at(path: str, tree: Any) -> Any:
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _holds(rules: Mapping[str, Any], answer: Any, how_many: Callable[[Iterable[bool]], bool]) -> bool:
    """Return whether all (or any) fields have the values of the rules. A list names several values."""
    return how_many(
        # In JSON, unlike in Python, 1 and true differ.
        msgspec.json.encode(_at(path, answer))
        in [msgspec.json.encode(value) for value in (wanted if isinstance(wanted, list) else [wanted])]
        for path, wanted in rules.items()
    )
