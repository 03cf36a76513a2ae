"""Webhooks: requests to any receiver, signed by Standard Webhooks, or as GitHub or Stripe sign theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args
from urllib.parse import quote

from pydantic import ValidationInfo, field_validator, model_validator

from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, ThrottleScope
from relay.provider import Request, Response, statuses
from relay.provider.retry_after import retry_after
from relay.provider.statuses import Meaning
from relay.settings.credentials import is_credential
from relay.settings.options import DestinationOptions
from relay.settings.values import Secret, Switch

from ._shared.answers import reason
from ._shared.hosts import host_of
from ._shared.networks import PrivateAccess, networks
from ._shared.oauth2 import AuthorisedOptions, AuthorisedProvider
from ._shared.signature_options import SignatureOptions
from ._shared.status_options import StatusOptions
from ._shared.webhook_limits import SIGNED, check_headers, check_secrets, check_url
from ._shared.webhook_signing import is_private

Method = Literal["POST", "PUT", "PATCH", "DELETE", "GET"]

GONE = 410
"""A status by which an endpoint asks to be removed (Standard Webhooks, "Delivery")."""

_METHODS = get_args(Method)
_FIELDS = ("url", "body", "headers", "method", "secrets")
_NO_URL = "url: missing, and the configuration gives none"
_PLACE = "_webhook_fields"
"""The place of the fields among the attributes of a message."""
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


class WebhookOptions(AuthorisedOptions, DestinationOptions):
    """Options of `type: webhook`."""

    url: str | None = None
    """URL of the receiver. Default: each message brings its own `url`."""
    send_credentials_to_any_url: Switch = False
    """Allow credentials in `headers` although messages bring their own `url`."""
    signature: SignatureOptions = SignatureOptions()
    """Format and header of the signature."""
    secret: Secret | None = None
    """Secret that signs requests: `whsec_…` with HMAC (v1), `whsk_…` with Ed25519 (v1a). Default: requests
    are not signed."""
    secrets: list[Secret] = []
    """Secrets during a rotation, the newest first. Each request is signed with all of them."""
    method: Method = "POST"
    """Default method, for messages without one."""
    headers: dict[str, str] = {}
    """Headers of every request. Headers of the message take precedence."""
    statuses: StatusOptions = StatusOptions()
    """Statuses whose meaning differs from the table of answers. `unregistered` reports the URL."""
    allow_private: PrivateAccess = False
    """Allow URLs of messages to reach private addresses: all of them, or those in a list of networks, such as
    `[10.0.0.0/8]`."""

    @field_validator("secret", "secrets")
    @classmethod
    def _are_secrets(
        cls, value: Secret | list[Secret] | None, info: ValidationInfo
    ) -> Secret | list[Secret] | None:
        signature = info.data.get("signature")
        if signature is None:  # it is wrong itself
            return value
        form, secrets = signature.form, _listed(value)
        for secret in secrets:
            form.signer(secret.get_secret_value())
        number = len(secrets)
        if info.field_name == "secrets":
            number += len(_listed(info.data.get("secret")))
        if number > form.most:
            raise ValueError(f"{number} secrets; `signature.format: {form.name}` can carry {form.most}")
        return value

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_url(value)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if signature := info.data.get("signature"):
            check_headers(value, SIGNED | {signature.header_name})
        if info.data.get("url", "") is None and info.data.get("send_credentials_to_any_url") is False:
            for name, text in value.items():
                if is_credential(name, text):
                    raise ValueError(
                        f"{name} would go to the URL of any message; set `url`, let messages bring this "
                        "header, or set `send_credentials_to_any_url: true`"
                    )
        return value

    @model_validator(mode="after")
    def _is_guarded_or_fixed(self) -> WebhookOptions:
        if self.url is None and self.oauth2 is not None and not self.send_credentials_to_any_url:
            raise ValueError(
                "`oauth2` would send an access token to the URL of any message; set `url`, or "
                "`send_credentials_to_any_url: true`"
            )
        if self.url is None and self.allow_private is not True:
            # Behind a proxy the guard cannot see where a URL leads.
            if self.proxy is not None:
                raise ValueError("`proxy` needs `url` (or `allow_private: true`)")
            # A message could make relay present its certificate to any server.
            if self.client_cert is not None:
                raise ValueError("`client_cert` needs `url` (or `allow_private: true`)")
        return self

    @property
    def brings_url(self) -> bool:
        return self.url is None

    def warnings(self) -> Sequence[str]:
        if self.url is not None:
            return ()
        found = []
        secrets = self.all_secrets()
        if secrets and not any(is_private(secret) for secret in secrets):
            found.append(
                "all URLs that messages bring share a whsec_ secret, so that each receiver can forge "
                "requests to the others: give each message its own `secrets`, or sign with whsk_ and "
                "`signature.format: standard` (docs/reference/providers/webhook.md)"
            )
        if self.client_cert is not None:
            found.append("`client_cert` is shown to any URL that a message brings: set `url`")
        return found

    def all_secrets(self) -> list[str]:
        """The texts of `secret` and `secrets`, the newest first."""
        return [secret.get_secret_value() for secret in (*_listed(self.secret), *self.secrets)]


class Webhook(AuthorisedProvider[WebhookOptions]):
    """Sends signed HTTP requests to any receiver."""

    passes_trace_on = True

    Options = WebhookOptions

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        # Each message needs these, and an attribute of a pydantic model takes five times as long.
        self._url = options.url
        self._method = options.method
        self._form = options.signature.form
        self._sign = self._form.sign
        self._signature_header = options.signature.header_name
        self._reserved = SIGNED | {self._signature_header}
        self._signers = [self._form.signer(secret) for secret in options.all_secrets()]
        self._headers = {name.lower(): value for name, value in options.headers.items()}
        if isinstance(options.allow_private, list):
            self.allowed_networks = networks(options.allow_private)
        if options.url is None:
            self.target_field = "url"
        self.guarded = options.url is None and options.allow_private is not True
        self._meanings = options.statuses.meanings()
        self._ours = frozenset[int]()
        if options.url is not None:
            self._ours = statuses.OURS
        elif options.proxy is not None:
            self._ours = statuses.PROXY

    def check(self, message: Message) -> Rejected | None:
        payload = _fields(message)
        if not payload:
            # The whole payload is the body.
            return None if self._url is not None else Rejected(_NO_URL)
        try:
            for name in payload:
                if name not in _FIELDS:
                    # Sending the rest would silently lose the value of this field.
                    raise ValueError(f"{name[:60]!r}: not a field; fields: {', '.join(_FIELDS)}")
            self._check_target(payload.get("url"))
            method = payload.get("method")
            if method is not None and method not in _METHODS:
                raise ValueError(f"method: must be one of {', '.join(_METHODS)}")
            headers = payload.get("headers")
            if headers is not None:
                check_headers(_given(headers), self._reserved)
            secrets = payload.get("secrets")
            if secrets is not None:
                check_secrets(secrets, self._form)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def _check_target(self, url: object) -> None:
        if self._url is None:
            if url is None:
                raise ValueError(_NO_URL)
            check_url(url)
        elif url is not None:
            raise ValueError("url: the configuration gives one already; take it out of one of the two")

    def destination(self, message: Message) -> str:
        return host_of(self.options.url or message.payload.get("url"))

    def request(self, batch: Sequence[Message]) -> Request:
        (message,) = batch
        payload = _fields(message)
        body, content_type = (
            _body(message, payload) if payload else (message.payload_json, "application/json")
        )
        headers = self._headers.copy()
        if own := payload.get("headers"):
            headers.update((name.lower(), value) for name, value in _given(own).items())
        if content_type:
            headers.setdefault("content-type", content_type)
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        identity, timestamp = _header_id(message.id), str(int(self.clock()))
        headers["webhook-id"] = identity
        headers["webhook-timestamp"] = timestamp
        own_secrets = payload.get("secrets") or ()
        signers = [self._form.signer(secret) for secret in own_secrets] if own_secrets else self._signers
        if signers:
            headers[self._signature_header] = self._sign(signers, identity, timestamp, body)
        url = self._url or payload["url"]
        method = payload.get("method") or self._method
        return Request(url, body, headers, method, public_only=self.guarded, secrets=own_secrets)

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        return [self._outcome(message, response)]

    def _outcome(self, message: Message, response: Response) -> Outcome:
        status = response.status
        if 200 <= status < 300 and status not in self._meanings:
            return Delivered()
        found = self._meanings.get(status) or self._usual(response)
        target = self._target(message, found)
        after = retry_after(response.headers, self.clock())
        # Without groups, one receiver that asks to wait delays only the messages that it refuses.
        scope: ThrottleScope = "target" if self.options.url is None and not message.group else "provider"
        return statuses.outcome_of(found, response, reason(response), after, target, scope=scope)

    def _target(self, message: Message, found: Meaning) -> str:
        """The URL, unless it is fixed: messages that are refused there count each on its own."""
        if self.options.url is None:
            return str(message.payload["url"])
        return self.options.url if found is Meaning.UNREGISTERED else ""

    def _usual(self, response: Response) -> Meaning:
        if response.status == GONE and self.options.url is None:
            return Meaning.UNREGISTERED
        return statuses.meaning(response, self._ours)

    async def verify(self) -> str:
        """Sends nothing, because a receiver has no way to say that it would accept."""
        target = self.options.url or "the url of each message"
        signed = f"signed (secrets that decode: {len(self._signers)})" if self._signers else "not signed"
        return f"nothing was sent; requests go to {target}, {signed}{await self.verify_token()}"


def _listed(value: Secret | list[Secret] | None) -> list[Secret]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _fields(message: Message) -> dict[str, Any]:
    """The payload of a message. Empty if it has none of our fields (`format: bare`): the whole payload is
    then the body. Found once for each message."""
    seen = message.__dict__
    found: dict[str, Any] | None = seen.get(_PLACE)
    if found is None:
        payload = message.payload
        found = seen[_PLACE] = {} if payload.keys().isdisjoint(_FIELDS) else payload
    return found


def _given(headers: Any) -> Any:
    """The headers of a message that have a value: null is the same as absent."""
    if not isinstance(headers, dict):
        return headers
    return {name: value for name, value in headers.items() if value is not None}


def _body(message: Message, payload: dict[str, Any]) -> tuple[bytes, str]:
    """The body and its type: JSON as the application wrote it, or text."""
    if "body" not in payload:
        return b"", ""
    body = payload["body"]
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return message.raw("body") or b"null", "application/json"


def _header_id(identity: str) -> str:
    """An id as a header value: characters that are not visible ASCII are percent-encoded.

    The specification forbids a full stop too, but its libraries take it, and the same id must go out as
    the application chose it.
    """
    visible = identity.isascii() and identity.isprintable() and " " not in identity
    return identity if visible else quote(identity, safe=_ASCII)
