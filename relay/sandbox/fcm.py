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
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

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
"""Google's word for each status of HTTP. What is not here comes from a machine in between, in HTML."""

REASONS = {
    400: "INVALID_ARGUMENT",
    403: "SENDER_ID_MISMATCH",
    404: "UNREGISTERED",
    429: "QUOTA_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""FCM's own error code of a failure by order, where the order names none."""

_PATH = re.compile(r"/v1/projects/([^/]+)/messages:send")
_TOKEN = re.compile(r"[A-Za-z0-9_:\-]{1,4096}")


class Wrong(Exception):
    """What FCM answers to a request that is wrong. `code`: FCM's own; `field`: the one to blame."""

    def __init__(self, status: int, text: str, code: str = "", field: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.field = status, code, field


class FcmEmulator:
    """Takes messages to one project, by the access tokens of its service account."""

    name = "fcm"
    routes = (("*", "/v1/projects/{project}/{method}"),)
    gone = 404

    def __init__(self, identity: Identity, clock: Callable[[], float] = time.time) -> None:
        self._identity, self._clock = identity, clock
        self._account = fcm_account.read(identity.account)

    def judge(self, call: Call) -> Verdict:
        """Who asks is looked at first, then the project, then the message."""
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

    def failed(self, ordered: Answer, right: Answer, reason: str) -> Answer:
        """A failure by order, as FCM says it; of a status that FCM does not have, HTML."""
        status = ordered.status
        if status not in STATUSES:
            body = f"<!DOCTYPE html><title>Error {status}</title><p>as ordered\n".encode()
            return Answer(status, body, "text/html", ordered.headers)
        code = reason or REASONS.get(status, "")
        # Google's own word alone, such as PERMISSION_DENIED, comes without one of FCM's.
        code = "" if code == STATUSES[status] and code not in REASONS.values() else code
        return _refusal(status, "as ordered", code, headers=ordered.headers)

    def settings(self, url: str) -> Mapping[str, object]:
        """The options of relay's FCM adapter that lead here."""
        return {
            "type": "fcm",
            **self._identity.option("service_account", ACCOUNT),
            "url": url,
            "token_url": f"{url}{fcm_oauth.PATH}",
        }

    def _check_request(self, call: Call) -> str:
        """The project. Raises Wrong."""
        path = _PATH.fullmatch(call.path)
        if path is None:
            raise Wrong(404, f"Method not found: {call.path[:80]}")
        if call.method != "POST":
            raise Wrong(405, f"{call.method[:20]} is not allowed")
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._account.knows(token, self._clock()):
            raise Wrong(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential.",
            )
        project = path[1]
        if project != self._account.project:
            raise Wrong(404, f"Project not found: {project[:80]}; there is {self._account.project}")
        if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Wrong(400, "Content-Type must be application/json", "INVALID_ARGUMENT")
        return project


def read_body(call: Call) -> dict[str, Any]:
    """`message` and `validate_only`. Raises Wrong, as Google's JSON parser puts it: without an FcmError."""
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
    """Of a message that may be wrong: where to, and whether people will see it."""
    kind = next((kind for kind in ("token", "topic", "condition", "fid") if kind in message), "")
    target = str(message.get(kind, ""))
    shown = "notification" if "notification" in message else "data"
    return Received(target if kind in ("", "token") else f"{kind} {target}", shown, "", excerpt(body))


def _refusal(
    status: int, text: str, code: str = "", field: str = "", headers: Mapping[str, str] | None = None
) -> Answer:
    """`code` is FCM's own; without one the answer is Google's alone."""
    text = readable(text)
    details: list[dict[str, object]] = []
    if code:
        details.append({"@type": FCM_ERROR, "errorCode": code})
    if field:
        details.append({"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": text}]})
    error: dict[str, object] = {"code": status, "message": text, "status": STATUSES[status]}
    if details:
        error["details"] = details
    body = msgspec.json.format(msgspec.json.encode({"error": error}), indent=2)
    return Answer(status, body, "application/json", headers or {})
