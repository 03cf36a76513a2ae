"""A receiver of webhooks, as strict as the libraries of Standard Webhooks, GitHub and Stripe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from pydantic import ValidationError

from relay.sandbox.exchange import Answer, Call, Received, Refused, Verdict, excerpt
from relay.sandbox.options import RequestFaults, SandboxOptions
from relay.sandbox.signatures import Keys, check_signature


class WebhookEmulator:
    """Accepts every method on `/webhook` and below. Raises ValueError if the secret is invalid."""

    name = "webhook"
    routes = (("*", "/webhook"), ("*", "/webhook/{path:.*}"))
    gone = 410

    def __init__(self, options: SandboxOptions, clock: Callable[[], float] = time.time) -> None:
        self._secret = options.webhook_secret
        self._keys = Keys.of(options.webhook_secret) if options.webhook_secret else None
        self._clock = clock

    def judge(self, call: Call) -> Verdict:
        """Refuse a wrong signature with 401, and a query with invalid faults with 400."""
        identity = call.headers.get("webhook-id", "")
        messages = (Received(call.path, call.method, identity, excerpt(call.body)),)
        try:
            if self._keys is not None:
                check_signature(call.headers, call.body, self._keys, self._clock())
            query = tuple(call.query.items())
            requested = _requested_faults(query) if query else None
        except Refused as error:
            return error.verdict(messages)
        return Verdict(Answer(200, b"{}", "application/json"), messages, requested)

    def failed(self, injected: Answer, right: Answer, reason: str) -> Answer:
        """Return the failure unchanged: its body is plain text."""
        return injected

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the options of relay's webhook adapter that point here."""
        settings = {"type": "webhook", "url": f"{url}/webhook/demo"}
        return {**settings, "secret": self._secret} if self._secret else settings


@lru_cache(maxsize=256)
def _requested_faults(query: tuple[tuple[str, str], ...]) -> RequestFaults:
    try:
        return RequestFaults.model_validate(dict(query))
    except ValidationError as error:
        first = error.errors()[0]
        name, why = first["loc"][0], first["msg"].removeprefix("Value error, ")
        raise Refused(400, f"the query asks for an invalid fault: {name}: {why}") from None
