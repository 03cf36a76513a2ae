"""Formats of webhook signatures, verified by the libraries of receivers and by documented algorithms."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError
from standardwebhooks import Webhook as StandardVerifier
from stripe import SignatureVerificationError, WebhookSignature

from relay.outcome import Rejected
from relay.provider import Request
from tests.unit.providers.test_webhook import OLDER, PRIVATE, PUBLIC, SECRET, URL, a_message, a_webhook

GITHUB_SECRET, GITHUB_BODY = "It's a Secret to Everybody", "Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""The example in GitHub's documentation."""

HUB, TIMESTAMPED = {"format": "hub"}, {"format": "timestamped"}


def github_accepts(body: bytes, secret: str, header: str) -> bool:
    """The example code in GitHub's documentation."""
    expected = "sha256=" + hmac.new(secret.encode("utf-8"), msg=body, digestmod=hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, header)


def verify_v1a(request: Request, public: str) -> None:
    """Verify as the standard says: any of the signatures, by the public key `whpk_…`."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    headers = request.headers
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    (signature,) = (
        value.removeprefix("v1a,")
        for value in headers["webhook-signature"].split()
        if value.startswith("v1a,")
    )
    key.verify(base64.b64decode(signature), content)


def test_a_hub_signature_equals_the_example_of_github() -> None:
    hook = a_webhook(signature=HUB, secret=GITHUB_SECRET)
    request = hook.request([a_message({"body": GITHUB_BODY})])
    assert request.headers["x-hub-signature-256"] == GITHUB_SIGNATURE
    assert "webhook-signature" not in request.headers
    assert {"webhook-id", "webhook-timestamp"} <= request.headers.keys()


@pytest.mark.parametrize("secret", [GITHUB_SECRET, SECRET, "ключ", "x"])
def test_a_hub_signature_is_accepted_by_the_code_of_github(secret: str) -> None:
    own = a_webhook(signature=HUB, url=None).request(
        [a_message({"url": URL, "body": {"a": [1, 2]}, "secrets": [secret]})]
    )
    shared = a_webhook(signature=HUB, secret=secret).request([a_message({"body": {"a": [1, 2]}})])
    for request in (own, shared):
        header = request.headers["x-hub-signature-256"]
        assert github_accepts(request.body, secret, header)
        assert not github_accepts(request.body + b" ", secret, header)


@pytest.mark.parametrize("secret", [SECRET, "any text", "ключ"])
def test_a_timestamped_signature_is_accepted_by_the_library_of_stripe(secret: str) -> None:
    hook = a_webhook(time.time(), signature=TIMESTAMPED, secret=secret)
    request = hook.request([a_message({"body": {"a": "ключ"}})])
    header = request.headers["webhook-signature"]
    assert WebhookSignature.verify_header(request.body, header, secret, tolerance=300)
    for body, key in ((request.body + b" ", secret), (request.body, "another")):
        with pytest.raises(SignatureVerificationError, match="No signatures found"):
            WebhookSignature.verify_header(body, header, key)
    late = a_webhook(time.time() - 301, signature=TIMESTAMPED, secret=secret)
    old = late.request([a_message({"body": {}})])
    with pytest.raises(SignatureVerificationError, match="outside the tolerance zone"):
        WebhookSignature.verify_header(old.body, old.headers["webhook-signature"], secret, tolerance=300)


def test_a_timestamped_signature_carries_one_signature_for_each_secret() -> None:
    hook = a_webhook(1_614_265_330, signature=TIMESTAMPED, secret="new", secrets=["old"])
    request = hook.request([a_message({"body": {"a": 1}})])
    header = request.headers["webhook-signature"]
    assert header.startswith("t=1614265330,v1=")
    assert header.count(",v1=") == 2
    for secret in ("new", "old"):
        assert WebhookSignature.verify_header(request.body, header, secret)
    own = hook.request([a_message({"body": {"a": 1}, "secrets": ["mine", "ours"]})])
    for secret in ("mine", "ours"):
        assert WebhookSignature.verify_header(own.body, own.headers["webhook-signature"], secret)
    with pytest.raises(SignatureVerificationError):
        WebhookSignature.verify_header(own.body, own.headers["webhook-signature"], "new")


def test_a_rotation_from_a_shared_secret_to_ed25519_verifies_by_both() -> None:
    hook = a_webhook(time.time(), secret=PRIVATE, secrets=[SECRET])
    request = hook.request([a_message({"body": {"a": 1}})])
    verify_v1a(request, PUBLIC)
    assert StandardVerifier(SECRET).verify(request.body, dict(request.headers)) == {"a": 1}


def test_a_key_without_its_public_half_verifies_by_whpk() -> None:
    key = Ed25519PrivateKey.generate()
    private = "whsk_" + base64.b64encode(key.private_bytes_raw()).decode()
    public = "whpk_" + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    verify_v1a(a_webhook(secret=private).request([a_message({"body": {"a": 1}})]), public)
    own = a_message({"body": {"a": 1}, "secrets": [OLDER, private]})
    verify_v1a(a_webhook(secret=SECRET).request([own]), public)


@pytest.mark.parametrize(
    ("signature", "sent"),
    [
        ({"header": "X-Shop-Signature"}, "v1,"),
        ({"format": "standard", "header": "x-shop-signature"}, "v1,"),
        ({**HUB, "header": "X-Shop-Signature"}, "sha256="),
        ({**TIMESTAMPED, "header": "X-Shop-Signature"}, "t="),
    ],
)
def test_another_header_holds_the_signature_alone(signature: dict[str, Any], sent: str) -> None:
    hook = a_webhook(signature=signature, secret=SECRET)
    headers = hook.request([a_message({"body": {}})]).headers
    assert headers["x-shop-signature"].startswith(sent)
    assert not {"webhook-signature", "x-hub-signature-256"} & headers.keys()
    refused = hook.check(a_message({"body": {}, "headers": {"X-SHOP-Signature": "forged"}}))
    assert refused == Rejected("headers: X-SHOP-Signature is set by relay and by the connection")


def test_a_message_cannot_set_the_usual_header_of_a_format() -> None:
    forged = a_message({"body": {}, "headers": {"X-Hub-Signature-256": "sha256=0"}})
    assert a_webhook(signature=HUB).check(forged) is not None
    assert a_webhook().check(forged) is None, "another format does not set this header"


@pytest.mark.parametrize("signature", [{}, HUB, TIMESTAMPED])
def test_a_message_without_any_secret_is_not_signed(signature: dict[str, Any]) -> None:
    headers = a_webhook(signature=signature).request([a_message({"body": {}})]).headers
    assert not {"webhook-signature", "x-hub-signature-256"} & headers.keys()


@pytest.mark.parametrize(
    ("signature", "secrets", "reason"),
    [
        (HUB, [SECRET, OLDER], "secrets: must be an array of one text (`signature.format: hub`)"),
        (HUB, [], "secrets: must be an array of one text (`signature.format: hub`)"),
        (HUB, [""], "secrets[0]: must not be empty"),
        (HUB, ["x" * 201], "secrets[0]: must be a text of at most 200 characters"),
        (
            TIMESTAMPED,
            ["a", PRIVATE],
            "secrets[1]: whsk_… signs with Ed25519, which needs `signature.format: standard`",
        ),
        (TIMESTAMPED, ["a"] * 11, "secrets: must be an array of 1 to 10 texts"),
    ],
)
def test_secrets_that_a_format_cannot_use_are_refused_without_showing_them(
    signature: dict[str, Any], secrets: Any, reason: str
) -> None:
    message = a_message({"body": {}, "secrets": secrets})
    assert a_webhook(signature=signature).check(message) == Rejected(reason)


@pytest.mark.parametrize(
    ("fields", "where", "reason"),
    [
        ({"signature": HUB, "secret": PRIVATE}, ("secret",), "whsk_… signs with Ed25519, which needs"),
        (
            {"signature": TIMESTAMPED, "secrets": [PRIVATE]},
            ("secrets",),
            "needs `signature.format: standard`",
        ),
        (
            {"signature": HUB, "secret": "a", "secrets": ["b"]},
            ("secrets",),
            "2 secrets; `signature.format: hub` can carry 1",
        ),
        ({"signature": HUB, "secret": "\udcff"}, ("secret",), "Input should be a valid string"),
        ({"signature": {"header": "Content-Length"}}, ("signature", "header"), "cannot hold the signature"),
        ({"signature": {"header": "host"}}, ("signature", "header"), "cannot hold the signature"),
        ({"signature": {"header": "Webhook-Id"}}, ("signature", "header"), "cannot hold the signature"),
        ({"signature": {"header": "content-type"}}, ("signature", "header"), "cannot hold the signature"),
        ({"signature": {"header": "X Y"}}, ("signature", "header"), "is not a header name"),
        ({"signature": {"header": ""}}, ("signature", "header"), "is not a header name"),
        ({"signature": {"header": "X\r\nY"}}, ("signature", "header"), "is not a header name"),
        ({"signature": {"format": "github"}}, ("signature", "format"), "'standard', 'hub' or 'timestamped'"),
        (
            {"signature": {"header": "X-Sig"}, "headers": {"x-sig": "1"}},
            ("headers",),
            "x-sig is set by relay and by the connection",
        ),
    ],
)
def test_a_combination_that_cannot_work_is_a_clear_error(
    fields: dict[str, Any], where: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason.replace("…", ".")) as caught:
        a_webhook(**fields)
    assert caught.value.errors()[0]["loc"] == where
    assert PRIVATE[5:20] not in str(caught.value)


def test_a_request_names_the_secrets_that_its_answer_must_not_show() -> None:
    hook = a_webhook(secret=SECRET)
    assert list(hook.request([a_message({"body": {}, "secrets": [OLDER]})]).secrets) == [OLDER]
    assert list(hook.request([a_message({"body": {}})]).secrets) == [], "those of the file are always hidden"
