"""Firebase Cloud Messaging, HTTP v1, as its documentation describes it.

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send,
https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import msgspec

from relay.sandbox import fcm_account, fcm_message, fcm_oauth
from relay.sandbox.exchange import Answer, Call, Received, Verdict, excerpt, readable
from relay.sandbox.identity import ACCOUNT, Identity

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

UNAUTHENTICATED = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, "
    "login cookie or other valid authentication credential."
)

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""Google's name of each HTTP status. Any other status comes from a proxy, in HTML."""

REASONS = {
    400: "INVALID_ARGUMENT",
    403: "SENDER_ID_MISMATCH",
    404: "UNREGISTERED",
    429: "QUOTA_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""FCM's own error code of an injected failure, by default."""

WORDS = {
    "INTERNAL": "Internal error encountered.",
    "NOT_FOUND": "Requested entity was not found.",
    "SENDER_ID_MISMATCH": "SenderId mismatch",
    "THIRD_PARTY_AUTH_ERROR": "Auth error from APNS or Web Push Service",
    "UNAUTHENTICATED": UNAUTHENTICATED,
    "UNAVAILABLE": "The service is currently unavailable.",
    "UNREGISTERED": "Requested entity was not found.",
}
"""Google's text for a code, in injected failures."""

DEVICE_QUOTA = "DEVICE_QUOTA_EXCEEDED"
"""Reason of an injected QUOTA_EXCEEDED about one device. FCM has no such code: it names the quota in the
details."""

_PATH = re.compile(r"/v1/projects/([^/]+)/messages:send")
_TOKEN = re.compile(r"[A-Za-z0-9_:\-]{1,4096}")


class Wrong(Exception):
    """A request is wrong. `code` is FCM's own error code, `field` the field at fault."""

    def __init__(self, status: int, text: str, code: str = "", field: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.field = status, code, field


class FcmEmulator:
    """Accepts messages to one project, with access tokens of its service account."""

    name = "fcm"
    routes = (("*", "/v1/projects/{project}/{method}"),)
    gone = 404

    def __init__(self, identity: Identity, clock: Callable[[], float] = time.time) -> None:
        self._identity, self._clock = identity, clock
        self._account = fcm_account.read(identity.account)

    def judge(self, call: Call) -> Verdict:
        """Check the sender first, then the project, then the message."""
        messages = (Received("", "", "", excerpt(call.body)),)
        try:
            project = self._check_request(call)
            document = read_body(call)
            message = document.get("message", {})
            messages = (_received(message, call.body),)
            try:
                found = fcm_message.read(message)
            except fcm_message.Wrong as error:
                raise Wrong(400, str(error), "INVALID_ARGUMENT", error.field) from None
            if found.token is not None and (
                not _TOKEN.fullmatch(found.token) or fcm_message.is_silent_with_high_priority(found)
            ):
                text = "The registration token is not a valid FCM registration token"
                raise Wrong(400, text, "INVALID_ARGUMENT", "message.token")
        except Wrong as error:
            return Verdict(_refusal(error.status, str(error), error.code, error.field), messages)
        identity = (
            "fake_message_id" if document.get("validate_only", document.get("validateOnly")) else uuid4()
        )
        name = {"name": f"projects/{project}/messages/{identity}"}
        return Verdict(Answer(200, msgspec.json.encode(name), "application/json"), messages)

    def failed(self, injected: Answer, right: Answer, reason: str) -> Answer:
        """Return an injected failure in FCM's form, or HTML if FCM does not use the status."""
        status = injected.status
        if status not in STATUSES:
            body = f"<!DOCTYPE html><title>Error {status}</title><p>injected fault\n".encode()
            return Answer(status, body, "text/html", injected.headers)
        if reason == DEVICE_QUOTA:
            return _refusal(
                status, "injected fault", "QUOTA_EXCEEDED", quota="device:1", headers=injected.headers
            )
        code = reason or REASONS.get(status, "")
        # Google's general codes, such as PERMISSION_DENIED, come without a code of FCM.
        code = "" if code == STATUSES[status] and code not in REASONS.values() else code
        return _refusal(
            status,
            WORDS.get(code or reason or STATUSES[status], "injected fault"),
            code,
            headers=injected.headers,
        )

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the options of relay's FCM adapter that point here."""
        return {
            "type": "fcm",
            **self._identity.option("service_account", ACCOUNT),
            "url": url,
            "token_url": f"{url}{fcm_oauth.PATH}",
        }

    def _check_request(self, call: Call) -> str:
        """Return the project. Raises Wrong."""
        path = _PATH.fullmatch(call.path)
        if path is None:
            raise Wrong(404, f"Method not found: {call.path[:80]}")
        if call.method != "POST":
            raise Wrong(405, f"{call.method[:20]} is not allowed")
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._account.knows(token, self._clock()):
            raise Wrong(401, UNAUTHENTICATED)
        project = path[1]
        if project != self._account.project:
            raise Wrong(
                403,
                "Permission 'cloudmessaging.messages.create' denied on resource "
                f"'//cloudresourcemanager.googleapis.com/projects/{project[:80]}' (or it may not exist).",
            )
        if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Wrong(400, "Content-Type must be application/json", "INVALID_ARGUMENT")
        return project


def read_body(call: Call) -> dict[str, Any]:
    """Return `message` and `validate_only`. Raises Wrong without an FcmError, as Google's JSON parser
    does."""
    try:
        document = msgspec.json.decode(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Wrong(400, f"Invalid JSON payload received. {error}") from None
    if not isinstance(document, dict):
        raise Wrong(400, "Invalid JSON payload received. The root must be an object.")
    for name, value in document.items():
        if name not in ("message", "validate_only", "validateOnly"):
            raise Wrong(400, f'Invalid JSON payload received. Unknown name "{name[:60]}": Cannot find field.')
        if not isinstance(value, dict if name == "message" else bool):
            raise Wrong(400, f"Invalid value at '{name}'", field=name)
    return document


def _received(message: Mapping[str, Any], body: bytes) -> Received:
    """Describe a message, which may be invalid: its target, and whether it shows a notification."""
    kind = next((kind for kind in ("token", "topic", "condition", "fid") if kind in message), "")
    target = str(message.get(kind, ""))
    shown = "notification" if "notification" in message else "data"
    return Received(target if kind in ("", "token") else f"{kind} {target}", shown, "", excerpt(body))


def _refusal(
    status: int,
    text: str,
    code: str = "",
    field: str = "",
    *,
    quota: str = "",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """`code` is FCM's own error code; without it the answer has no FcmError. `quota` names the limited
    subject."""
    text = readable(text)
    details: list[dict[str, object]] = []
    if code:
        details.append({"@type": FCM_ERROR, "errorCode": code})
    if field:
        details.append({"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": text}]})
    if quota:
        details.append({"@type": QUOTA_FAILURE, "violations": [{"subject": quota, "description": text}]})
    error: dict[str, object] = {"code": status, "message": text, "status": STATUSES[status]}
    if details:
        error["details"] = details
    body = msgspec.json.format(msgspec.json.encode({"error": error}), indent=2)
    return Answer(status, body, "application/json", headers or {})
