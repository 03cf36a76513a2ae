"""Firebase Cloud Messaging, HTTP v1.

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send,
https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from pydantic import field_validator, model_validator

from providers._shared.answers import json_object, reason
from providers._shared.fcm_limits import TARGETS, check_message
from providers._shared.google_token import (
    TokenRefused,
    Tokens,
    fetch_by_assertion,
    fetch_by_default_credentials,
    preload,
    read_private_key,
)
from providers._shared.hosts import base_url
from providers._shared.upstream import collapse_id, seconds_left, topic
from relay.errors import TransportError, UsageError
from relay.http.transport import Transport
from relay.message import Message
from relay.outcome import (
    Delivered,
    Outcome,
    Rejected,
    Retry,
    Throttled,
    Unauthorised,
    Unregistered,
)
from relay.provider import HttpProvider, Request, Response
from relay.provider.retry_after import retry_after
from relay.settings.http import HttpOptions
from relay.settings.values import Secret, Switch

URL = "https://fcm.googleapis.com"
QUOTA_PAUSE = 60.0
"""Seconds to wait where a quota is used up and no Retry-After says more."""
OTHER_PLATFORM_PAUSE = 60.0
"""Seconds until the next attempt where the project's APNs or Web Push key is wrong: Android goes on."""

SHOWN = ("alert", "badge", "sound")
"""The keys of `aps` that a device's owner sees or hears."""

_NOT_A_TARGET = "registration token is not a valid FCM registration token"
"""Google's words about a token that is none; some answers name no field besides."""

_PRIORITY = {0: ("HIGH", "10", "high"), 2: ("NORMAL", "5", "low")}
"""For Android, APNs and Web Push. A normal message is left to FCM, which knows what kind it is."""


class FcmOptions(HttpOptions):
    """Options of `type: fcm`."""

    service_account: Secret | None = None
    """The JSON of a service account's key, as the Firebase console gives it: `service_account_file`."""
    credentials: Literal["service_account", "adc"] = "service_account"
    """adc: Application Default Credentials, as on Google's own machines."""
    project_id: str | None = None
    """The Firebase project. Absent: that of the service account."""
    validate_only: Switch = False
    """Let FCM check messages without sending them."""
    url: str = URL
    """Where messages go; the sandbox's for trying out."""
    token_url: str | None = None
    """Where access tokens come from. Absent: where the service account says."""

    @field_validator("service_account")
    @classmethod
    def _is_account(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            read_account(value.get_secret_value())
        return value

    @field_validator("url", "token_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value)

    @model_validator(mode="after")
    def _is_complete(self) -> FcmOptions:
        if self.credentials == "service_account" and self.service_account is None:
            raise ValueError("service_account_file: missing (or `credentials: adc`)")
        if self.credentials == "adc" and self.project_id is None:
            raise ValueError("project_id: needed with `credentials: adc`")
        return self


class Fcm(HttpProvider[FcmOptions]):
    """One HTTP request for each message, over HTTP/2."""

    Options = FcmOptions
    target_field = "token"
    prefers_http2 = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        secret = options.service_account
        self._account = read_account(secret.get_secret_value()) if secret else {}
        project = options.project_id or self._account.get("project_id", "")
        self._url = f"{options.url}/v1/projects/{quote(project, safe='')}/messages:send"
        self._tokens = Tokens(self._fetch, self.clock)

    async def start(self, transport: Transport) -> None:
        await super().start(transport)
        preload(self.options.credentials)

    async def close(self) -> None:
        await self._tokens.close()

    async def _fetch(self) -> tuple[str, float]:
        if self.options.credentials == "adc":
            return await fetch_by_default_credentials(self.clock(), self.options.timeout)
        token_url = self.options.token_url or self._account["token_uri"]
        return await fetch_by_assertion(self._transport, self._account, token_url, self.clock())

    async def verify(self) -> str:
        """Gets a token, and has FCM refuse an empty message with it."""
        try:
            token = await self._tokens.get()
            body = b'{"message":{},"validate_only":true}'
            response = await self._transport.send(self._request(body, token))
        except (TokenRefused, TransportError) as error:
            raise UsageError(str(error)) from error
        outcome = self._outcome(None, response)
        if isinstance(outcome, Unauthorised):
            raise UsageError(outcome.reason)
        return f"a token was granted, and FCM knows it for {self._url}"

    def check(self, message: Message) -> Rejected | None:
        try:
            check_message(message.payload)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def group(self, message: Message) -> Hashable:
        return None

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        (message,) = batch
        request = self.request(batch)
        for fresh in (False, True):
            try:
                token = await self._tokens.get()
            except TokenRefused as error:
                return [Unauthorised(str(error))]
            response = await self._transport.send(with_token(request, token))
            if fresh or response.status != 401 or _error(response)[0]:
                break
            self._tokens.forget(token)
        return [self._outcome(message, response)]

    def request(self, batch: Sequence[Message]) -> Request:
        """The request without its access token, which `with_token` adds."""
        (message,) = batch
        body = b'{"message":' + self._message(message)
        body += b',"validate_only":true}' if self.options.validate_only else b"}"
        return self._request(body)

    def _request(self, body: bytes, token: str = "") -> Request:
        headers = {"content-type": "application/json", "x-goog-api-format-version": "2"}
        return with_token(Request(self._url, body, headers), token)

    def _message(self, message: Message) -> bytes:
        left = seconds_left(message, self.clock())
        priority = _PRIORITY.get(message.priority)
        if left is None and not message.collapse_key and priority is None:
            return message.payload_json
        payload = dict(message.payload)
        android, apns, webpush = {}, {}, {}
        if left is not None:
            android["ttl"] = f"{left}s"
            apns["apns-expiration"] = str(int(message.expires_at))
            webpush["TTL"] = str(left)
        if message.collapse_key:
            android["collapse_key"] = message.collapse_key
            apns["apns-collapse-id"] = collapse_id(message.collapse_key)
            webpush["Topic"] = topic(message.collapse_key)
        if priority is not None:
            android["priority"], for_apns, webpush["Urgency"] = priority
            apns |= _apns_priority(payload, for_apns)
        payload["android"] = _add(payload.get("android") or {}, android)
        for platform, headers in (("apns", apns), ("webpush", webpush)):
            block = dict(payload.get(platform) or {})
            block["headers"] = _add(block.get("headers") or {}, headers)
            payload[platform] = block
        return msgspec.json.encode(payload)

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        return [self._outcome(message, response)]

    def _outcome(self, message: Message | None, response: Response) -> Outcome:
        status, body = response.status, response.body
        if status == 200:
            return Delivered(_name(body))
        code, name, fields = _error(response)
        why = f"{status} {code or name}: {_text(response)}" if code or name else reason(response)
        target = _target(message)
        match code or name:
            case "UNREGISTERED" | "SENDER_ID_MISMATCH":
                return Unregistered(target, why, status)
            case "INVALID_ARGUMENT" if fields & {"message.token", "message.fid"} or _NOT_A_TARGET in why:
                return Unregistered(target, why, status)
            case "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED":
                after = retry_after(response.headers, self.clock())
                return Throttled(why, QUOTA_PAUSE if after is None else after, status, body)
            case "THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR":
                return Retry(why, status, body, OTHER_PLATFORM_PAUSE)
            case "UNAUTHENTICATED" | "PERMISSION_DENIED" | "NOT_FOUND":
                return Unauthorised(why, status, body)
        if status == 429:
            after = retry_after(response.headers, self.clock())
            return Throttled(why, QUOTA_PAUSE if after is None else after, status, body)
        if status == 503 and "retry-after" in response.headers:
            return Throttled(why, retry_after(response.headers, self.clock()), status, body)
        # A 404 or 502 in HTML comes from a machine in between and says nothing about the message.
        if status in {404, 408} or status >= 500 or status < 300:
            return Retry(why, status, body)
        if status in {401, 403}:
            return Unauthorised(why, status, body)
        return Rejected(why, status, body)


def with_token(request: Request, token: str) -> Request:
    """The request with an access token."""
    if not token:
        return request
    return msgspec.structs.replace(request, headers={**request.headers, "authorization": f"Bearer {token}"})


def read_account(text: str) -> dict[str, Any]:
    """A service account's key file. Raises ValueError with what is wrong about it."""
    try:
        account = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError):
        raise ValueError(
            "must be the JSON of a service account's key, as the Firebase console gives it"
        ) from None
    needed = ("client_email", "private_key", "private_key_id", "token_uri", "project_id")
    missing = [name for name in needed if not isinstance(account, dict) or not account.get(name)]
    if missing:
        raise ValueError(f"is no service account's key: {', '.join(missing)} missing")
    try:
        read_private_key(str(account["private_key"]))
    except ValueError as error:
        raise ValueError(f"private_key: {error}") from None
    found: dict[str, Any] = account
    return found


def _add(block: dict[str, Any], mapped: dict[str, str]) -> dict[str, Any]:
    """The envelope's fields, unless the payload has them, in either of Google's spellings."""
    said = {name.replace("_", "").lower() for name in block}
    return {
        **{name: value for name, value in mapped.items() if name.replace("_", "").lower() not in said},
        **block,
    }


def _apns_priority(payload: dict[str, Any], wanted: str) -> dict[str, str]:
    """The header `apns-priority`, as far as FCM takes one for this message.

    A push that shows nothing must not have 10: FCM then answers that the token is invalid, which it is not.
    """
    content: object = payload.get("apns")
    for name in ("payload", "aps"):
        content = content.get(name) if isinstance(content, dict) else None
    aps = content if isinstance(content, dict) else {}
    if payload.get("notification") is not None or any(aps.get(name) is not None for name in SHOWN):
        return {"apns-priority": wanted}
    return {"apns-priority": "5"} if aps.get("content-available") == 1 else {}


def _target(message: Message | None) -> str:
    payload = message.payload if message else {}
    return next((str(payload[name]) for name in TARGETS if payload.get(name) is not None), "")


def _name(body: bytes) -> str:
    return str(json_object(body).get("name", ""))


def _error(response: Response) -> tuple[str, str, frozenset[str]]:
    """FCM's own error code, Google's status, and the fields that are to blame; empty where not told."""
    error = json_object(response.body).get("error")
    if not isinstance(error, dict):
        return "", "", frozenset()
    code, fields = "", set()
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict):
            continue
        if str(detail.get("@type", "")).endswith("FcmError"):
            code = str(detail.get("errorCode", ""))
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict):
                fields.add(str(violation.get("field", "")))
    return "" if code == "UNSPECIFIED_ERROR" else code, str(error.get("status", "")), frozenset(fields)


def _text(response: Response) -> str:
    error = json_object(response.body).get("error")
    text = str(error.get("message", "")) if isinstance(error, dict) else ""
    return " ".join(text.split())[:200]
