"""A receiver of Standard Webhooks 1.0.0, as strict as its reference libraries.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from relay.sandbox.exchange import Answer, Call, Received, Refused, Verdict, excerpt
from relay.sandbox.options import RequestFaults, SandboxOptions

CLOCK = 300
"""Seconds by which the timestamp of a request may be off."""

Key = bytes | Ed25519PublicKey
"""The key of a symmetric secret (v1) or of an Ed25519 one (v1a)."""

_SECONDS = re.compile(r"[0-9]{1,15}")


class WebhookEmulator:
    """Accepts every method on `/webhook` and below. Raises ValueError if the secret is invalid."""

    name = "webhook"
    routes = (("*", "/webhook"), ("*", "/webhook/{path:.*}"))
    gone = 410

    def __init__(self, options: SandboxOptions, clock: Callable[[], float] = time.time) -> None:
        self._secret = options.webhook_secret
        self._key = signing_key(options.webhook_secret) if options.webhook_secret else None
        self._clock = clock

    def judge(self, call: Call) -> Verdict:
        """Refuse a wrong signature with 401, and a query with invalid faults with 400."""
        identity = call.headers.get("webhook-id", "")
        messages = (Received(call.path, call.method, identity, excerpt(call.body)),)
        try:
            if self._key is not None:
                check_signature(call.headers, call.body, self._key, self._clock())
            query = tuple(call.query.items())
            order = _order(query) if query else None
        except Refused as error:
            return error.verdict(messages)
        return Verdict(Answer(200, b"{}", "application/json"), messages, order)

    def failed(self, ordered: Answer, right: Answer, reason: str) -> Answer:
        """Return the failure unchanged: its body is plain text."""
        return ordered

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the options of relay's webhook adapter that point here."""
        settings = {"type": "webhook", "url": f"{url}/webhook/demo"}
        return {**settings, "secret": self._secret} if self._secret else settings


def signing_key(secret: str) -> Key:
    """Return the key of a `whsec_…` secret (prefix and padding are optional), or the public key of `whsk_…`.

    Raises ValueError.
    """
    private = secret.startswith("whsk_")
    key = _decoded(secret.removeprefix("whsk_").removeprefix("whsec_"))
    if not key or (private and len(key) not in (32, 64)):
        raise ValueError("the webhook secret must be whsec_ followed by base64, or whsk_ and an Ed25519 key")
    return Ed25519PrivateKey.from_private_bytes(key[:32]).public_key() if private else key


def _decoded(text: str) -> bytes:
    """Decode base64, with or without padding. Returns no bytes if it is not base64."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def check_signature(headers: Mapping[str, str], body: bytes, key: Key, now: float) -> None:
    """Raise Refused (401) unless the request is signed with the key, recently and over this body.

    `now` is in Unix seconds. Header names are case-insensitive. One valid signature is enough.
    """
    found = {name: headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")}
    for name, value in found.items():
        if not value:
            raise Refused(401, f"the header webhook-{name} is missing")
    if not _SECONDS.fullmatch(found["timestamp"]):
        raise Refused(401, "webhook-timestamp must be Unix seconds")
    skew = abs(now - int(found["timestamp"]))
    if skew > CLOCK:
        raise Refused(401, f"webhook-timestamp is off by {skew:.0f} s; at most {CLOCK} are allowed")
    # Bytes of a header that are not UTF-8 arrive as surrogates; turn them back into bytes.
    signed = f"{found['id']}.{found['timestamp']}.".encode("utf-8", "surrogateescape") + body
    wanted = "v1" if isinstance(key, bytes) else "v1a"
    for signature in found["signature"].split(" "):
        version, _, value = signature.partition(",")
        if version == wanted and _is_right(value, signed, key):
            return
    raise Refused(
        401, f"no {wanted} signature in webhook-signature matches the id, the timestamp and the body"
    )


def _is_right(value: str, signed: bytes, key: Key) -> bool:
    if isinstance(key, bytes):
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        return hmac.compare_digest(value.encode("utf-8", "surrogateescape"), expected)
    try:
        key.verify(_decoded(value), signed)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=256)
def _order(query: tuple[tuple[str, str], ...]) -> RequestFaults:
    try:
        return RequestFaults.model_validate(dict(query))
    except ValidationError as error:
        first = error.errors()[0]
        name, why = first["loc"][0], first["msg"].removeprefix("Value error, ")
        raise Refused(400, f"the query asks for an invalid fault: {name}: {why}") from None
