"""Signed tokens: the examples of the standards, and each check."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from relay.sandbox import jws

VECTORS = {
    vector["id"]: vector
    for vector in json.loads((Path(__file__).parents[2] / "vectors/push.json").read_text())
}
KEY = ec.generate_private_key(ec.SECP256R1())


def test_the_example_of_the_standard_is_valid() -> None:
    inputs = VECTORS["rfc7515-A.3-es256"]["inputs"]
    x, y = (int.from_bytes(jws.decoded(inputs["jwk"][name])) for name in "xy")
    token = jws.read(inputs["jws"])
    token.verify(ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())
    assert (token.header, token.claims["iss"]) == ({"alg": "ES256"}, "joe")


def test_tokens_that_others_computed_are_valid() -> None:
    fcm = VECTORS["fcm-oauth-assertion-own"]
    key = load_pem_public_key(fcm["inputs"]["public_key_pem"].encode())
    assert isinstance(key, rsa.RSAPublicKey)
    token = jws.read(fcm["expected"]["assertion"])
    token.verify(key)
    assert token.seconds("exp") - token.seconds("iat") == 3600
    apns = VECTORS["apns-provider-jwt-own"]
    private = load_pem_private_key(apns["inputs"]["p8_pem_test_key"].encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    jws.read(apns["expected"]["jwt_rfc6979"]).verify(private.public_key())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not three parts"),
        ("a.b", "not three parts"),
        ("a.b.c.d", "not three parts"),
        ("a.b.ж", "not three parts"),
        ("a..c", "not three parts"),
        ("a.b.c", "not JSON objects"),
        ("W10.W10.YQ", "not JSON objects"),  # []
        ("e30.gA.YQ", "not JSON objects"),  # not UTF-8
    ],
)
def test_an_unreadable_text_is_no_token(text: str, why: str) -> None:
    with pytest.raises(jws.InvalidToken, match=why):
        jws.read(text)


def test_apple_s_printed_example_is_no_token() -> None:
    token = jws.read(VECTORS["apns-doc-example-token-NEGATIVE"]["inputs"]["token"])
    with pytest.raises(jws.InvalidToken):
        token.verify(KEY.public_key())


def test_a_signature_is_that_of_the_key_over_every_byte_in_its_raw_form() -> None:
    token = jwt.encode({"iat": 1}, KEY, "ES256")
    jws.read(token).verify(KEY.public_key())
    head, claims, signature = token.split(".")
    raw = jws.decoded(signature)
    changed = jws.encoded(b'{"iat":2}')
    der = jws.encoded(b"\x30\x44" + raw[:4] + raw)
    hs256 = jwt.encode({}, "x" * 32, "HS256")
    for wrong, why in (
        (f"{head}.{changed}.{signature}", "another key, or changed"),
        (f"{head}.{claims}.{jws.encoded(bytes(64))}", "another key, or changed"),
        (f"{head}.{claims}.{der}", "64 bytes"),
        (hs256, "alg must be ES256"),
    ):
        with pytest.raises(jws.InvalidToken, match=why):
            jws.read(wrong).verify(KEY.public_key())
    with pytest.raises(jws.InvalidToken, match="another key"):
        jws.read(token).verify(ec.generate_private_key(ec.SECP256R1()).public_key())
    key = rsa.generate_private_key(65537, 2048)
    with pytest.raises(jws.InvalidToken, match="alg must be RS256"):
        jws.read(token).verify(key.public_key())


@pytest.mark.parametrize("value", [None, "1", 1.5, True, [1]])
def test_times_are_whole_seconds(value: Any) -> None:
    token = jws.read(jwt.PyJWS().encode(json.dumps({"exp": value}).encode(), KEY, "ES256"))
    with pytest.raises(jws.InvalidToken, match="exp must be Unix seconds"):
        token.seconds("exp")
    now = int(time.time())
    assert jws.read(jwt.encode({"exp": now}, KEY, "ES256")).seconds("exp") == now
