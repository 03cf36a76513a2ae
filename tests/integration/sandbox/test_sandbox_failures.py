"""Injected failures of push services: each in the provider's own words, as relay's adapter reads them."""

from __future__ import annotations

from typing import Any

import pytest

from providers._shared.apns_channels import Storage
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.sandbox.options import Faults
from relay.sandbox.server import Sandbox
from relay.sandbox.subscriptions import Subscriptions
from tests.integration.sandbox.conftest import Sender, apns, fcm, webpush

UNAVAILABLE = "503 UNAVAILABLE: The service is currently unavailable."
CASES: list[tuple[str, dict[str, Any], type[Outcome], str]] = [
    ("apns", {"fail": 1}, Retry, "500 InternalServerError"),
    ("apns", {"status": 503}, Retry, "503 ServiceUnavailable"),
    ("apns", {"status": 503, "reason": "Shutdown"}, Retry, "503 Shutdown"),
    (
        "apns",
        {"status": 429, "reason": "TooManyProviderTokenUpdates"},
        Throttled,
        "429 TooManyProviderTokenUpdates",
    ),
    ("apns", {"rate_limit": "1/s", "burst": 1}, Throttled, "429 TooManyRequests"),
    ("apns", {"status": 403}, Unauthorised, "403 InvalidProviderToken"),
    ("apns", {"status": 502}, Retry, "502"),
    ("channel", {"status": 400, "reason": "FeatureNotEnabled"}, Unauthorised, "400 FeatureNotEnabled"),
    ("channel", {"status": 403, "reason": "TopicMismatch"}, Unauthorised, "403 TopicMismatch"),
    ("channel", {"status": 400, "reason": "BadChannelId"}, Rejected, "400 BadChannelId"),
    ("channel", {"status": 429}, Throttled, "429 TooManyRequests"),
    ("channel", {"status": 503}, Retry, "503 ServiceUnavailable"),
    ("channel", {"unregistered": 1}, Unregistered, "400 ChannelNotRegistered"),
    ("fcm", {"fail": 1}, Retry, "500 INTERNAL: Internal error encountered."),
    ("fcm", {"status": 502}, Retry, "502"),
    ("fcm", {"status": 503}, Retry, UNAVAILABLE),
    ("fcm", {"status": 503, "retry_after": 7}, Throttled, UNAVAILABLE),
    ("fcm", {"status": 429, "retry_after": 7}, Throttled, "429 QUOTA_EXCEEDED: injected fault"),
    ("fcm", {"rate_limit": "1/s", "burst": 1}, Throttled, "429 QUOTA_EXCEEDED: injected fault"),
    ("fcm", {"status": 400}, Rejected, "400 INVALID_ARGUMENT: injected fault"),
    ("fcm", {"status": 401}, Unauthorised, "401 UNAUTHENTICATED: Request had invalid"),
    (
        "fcm",
        {"status": 401, "reason": "THIRD_PARTY_AUTH_ERROR"},
        Retry,
        "401 THIRD_PARTY_AUTH_ERROR: Auth error from APNS or Web Push Service",
    ),
    ("fcm", {"status": 403}, Unregistered, "403 SENDER_ID_MISMATCH: SenderId mismatch"),
    (
        "fcm",
        {"status": 403, "reason": "PERMISSION_DENIED"},
        Unauthorised,
        "403 PERMISSION_DENIED: injected fault",
    ),
    ("fcm", {"status": 404, "reason": "NOT_FOUND"}, Unregistered, "404 NOT_FOUND: Requested entity was not"),
    ("fcm", {"unregistered": 1}, Unregistered, "404 UNREGISTERED: Requested entity was not found."),
    ("webpush", {"fail": 1}, Retry, "500"),
    ("webpush", {"status": 503, "retry_after": 3}, Throttled, "503"),
    ("webpush", {"status": 429}, Throttled, "429"),
    ("webpush", {"rate_limit": "1/s", "burst": 1}, Throttled, "429"),
    ("webpush", {"status": 413}, Rejected, "413"),
    ("webpush", {"status": 404}, Unregistered, "404"),
    ("webpush", {"unregistered": 1}, Unregistered, "410"),
]


async def test_an_injected_device_quota_of_fcm_is_about_the_device_only(sandbox: Sandbox) -> None:
    async with fcm(sandbox) as sender:
        for reason, scope in [("DEVICE_QUOTA_EXCEEDED", "target"), ("QUOTA_EXCEEDED", "provider")]:
            faults = {"status": 429, "reason": reason, "retry_after": 7, "provider": "fcm"}
            sandbox.fault_injector.replace(Faults.model_validate(faults))
            found = await sender.push(id=reason)
            assert isinstance(found, Throttled)
            assert (found.scope, found.after) == (scope, 7)
            assert found.reason == "429 QUOTA_EXCEEDED: injected fault"


@pytest.mark.parametrize(("name", "faults", "outcome", "reason"), CASES)
async def test_an_injected_failure_has_the_words_of_its_provider(
    sandbox: Sandbox, name: str, faults: dict[str, Any], outcome: type[Any], reason: str
) -> None:
    senders: dict[str, Sender[Any]] = {"fcm": fcm(sandbox), "webpush": webpush(sandbox)}
    provider = "apns" if name == "channel" else name
    target = "device-1"
    async with senders.get(name) or apns(sandbox) as sender:
        if name == "channel":
            target = await sender.adapter.channels().create(Storage.NONE)
            update = {"timestamp": 1, "event": "update", "content-state": {"home": 2}}
            sender.payload = {"channel_id": target, "aps": update}
        if name == "webpush":
            subscription = Subscriptions(sandbox.identity.ca_key).make().document(sandbox.url)
            sender.payload["subscription"], target = subscription, subscription["endpoint"]
        assert isinstance(await sender.push(), Delivered)
        sandbox.fault_injector.replace(Faults.model_validate({**faults, "provider": provider}))
        if "rate_limit" in faults:
            assert isinstance(await sender.push(id="b"), Delivered)
        found = await sender.push(id="c")
    assert isinstance(found, outcome)
    assert found.reason.startswith(reason) if name in ("fcm", "webpush") else found.reason == reason
    if isinstance(found, Unregistered):
        assert found.target == target
