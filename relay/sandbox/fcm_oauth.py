"""Google's token endpoint, for the JWT grant of service accounts (RFC 7523).

Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

import msgspec

from relay.sandbox import fcm_account, jws
from relay.sandbox.exchange import Answer, Call, Verdict
from relay.sandbox.identity import Identity

PATH = "/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
"""Scopes that allow sending."""

LONGEST = 3600
"""Longest lifetime of an assertion, in seconds."""

SKEW = 300
"""Seconds by which a client's clock may be ahead."""

_FORM = "application/x-www-form-urlencoded"


class Wrong(Exception):
    """A request is wrong: the error code of RFC 6749 and Google's description."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code, self.status = code, status


class OAuthEmulator:
    """Exchanges the assertion of a service account for an access token, which `FcmEmulator` accepts."""

    name = "oauth"
    routes = (("*", PATH),)
    gone = 0

    def __init__(self, identity: Identity, clock: Callable[[], float] = time.time) -> None:
        self._account = fcm_account.read(identity.account)
        self._clock = clock

    def judge(self, call: Call) -> Verdict:
        """Refuse an assertion that is not ours or not of this hour, with invalid_grant and the like."""
        now = self._clock()
        try:
            check_grant(call, self._account, now)
        except Wrong as error:
            return Verdict(_refusal(error.status, error.code, str(error)))
        document = {
            "access_token": self._account.grant(now),
            "expires_in": fcm_account.LIFE,
            "token_type": "Bearer",
        }
        return Verdict(Answer(200, msgspec.json.encode(document), "application/json"))

    def failed(self, injected: Answer, right: Answer, reason: str) -> Answer:
        """Return an injected failure in the form of OAuth 2.0."""
        code = reason or ("server_error" if injected.status >= 500 else "invalid_grant")
        return _refusal(injected.status, code, "injected fault", injected.headers)

    def settings(self, url: str) -> Mapping[str, object]:
        """Return nothing: the options of FCM name this endpoint."""
        return {}


def check_grant(call: Call, account: fcm_account.Account, now: float) -> None:
    """Raise Wrong unless the request holds an assertion of the account. `now` is in Unix seconds."""
    if call.method != "POST":
        raise Wrong("invalid_request", "only POST is allowed", 405)
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Wrong("invalid_request", f"Content-Type must be {_FORM}")
    form = parse_qs(call.body.decode("utf-8", "replace"))
    grant = form.get("grant_type", [""])[0]
    if grant != GRANT:
        raise Wrong("unsupported_grant_type", f"Invalid grant_type: {grant[:80]}")
    if "assertion" not in form:
        raise Wrong("invalid_request", "Missing required parameter: assertion")
    try:
        assertion = jws.read(form["assertion"][0])
        if assertion.claims.get("iss") != account.email:
            raise Wrong("invalid_grant", "Invalid grant: account not found")
        # `kid` may be missing: Google then tries all keys of the account.
        if assertion.header.get("kid", account.key_id) != account.key_id:
            raise jws.InvalidToken("kid is not the private_key_id of the account")
        assertion.verify(account.key)
        issued, ends = assertion.seconds("iat"), assertion.seconds("exp")
    except jws.InvalidToken as error:
        raise Wrong("invalid_grant", f"Invalid JWT: {error}") from None
    if not (issued - SKEW <= now < ends and issued < ends <= issued + LONGEST):
        raise Wrong(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
            "Check your iat and exp values in the JWT claim.",
        )
    host = call.headers.get("host", "")
    if assertion.claims.get("aud") not in (
        fcm_account.TOKEN_URI,
        f"http://{host}{PATH}",
        f"https://{host}{PATH}",
    ):
        raise Wrong("invalid_grant", f"Invalid JWT: aud must be {fcm_account.TOKEN_URI} or this URL")
    if not SCOPES & set(str(assertion.claims.get("scope", "")).split()):
        raise Wrong("invalid_scope", "Invalid OAuth scope or ID token audience provided.")


def _refusal(status: int, code: str, description: str, headers: Mapping[str, str] | None = None) -> Answer:
    body = msgspec.json.encode({"error": code, "error_description": description})
    return Answer(status, body, "application/json", headers or {})
