"""The push service of browsers: its checks, and relay's adapter against it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from multidict import CIMultiDict

from providers.webpush import WebPush
from relay.outcome import Delivered, Unauthorised, Unregistered
from relay.sandbox import jws, vapid, webpush
from relay.sandbox.exchange import Answer, Call, Verdict
from relay.sandbox.identity import Identity
from relay.sandbox.server import Sandbox
from relay.sandbox.subscriptions import Subscription, Subscriptions, point, public_key
from relay.sandbox.webpush import WebPushEmulator
from tests.integration.sandbox import conftest
from tests.integration.sandbox.conftest import Sender

NOW = 1_800_000_000
HOST = "127.0.0.1:8089"
ORIGIN = f"http://{HOST}"
VECTORS = {
    vector["id"]: vector
    for vector in json.loads((Path(__file__).parents[2] / "vectors/push.json").read_text())
}
KEY = ec.generate_private_key(ec.SECP256R1())


def authorization(key: Any = KEY, k: str = "", **claims: Any) -> str:
    made = {"aud": ORIGIN, "exp": NOW + 3600, "sub": "mailto:ops@example.com", **claims}
    text = json.dumps({name: value for name, value in made.items() if value is not None}).encode()
    token = jwt.PyJWS().encode(text, key, "ES256")
    return f"vapid t={token}, k={k or jws.encoded(point(KEY.public_key()))}"


# Senders


def test_the_example_of_the_standard_is_valid_until_it_expires() -> None:
    vector = VECTORS["rfc8292-2.4"]
    header, ends = vector["expected"]["authorization"], vector["expected"]["claims"]["exp"]
    key = vapid.sender(header, "https://push.example.net", ends - 1)
    assert jws.encoded(key) == vector["inputs"]["k"]
    for now, why in ((ends, "exp has passed"), (ends - 86401, "within 24 hours")):
        with pytest.raises(jws.InvalidToken, match=why):
            vapid.sender(header, "https://push.example.net", now)


@pytest.mark.parametrize(
    "header",
    [
        authorization(),
        authorization().replace("vapid", "Vapid"),
        authorization().replace(", ", ","),
        authorization(aud=["https://example.com", ORIGIN]),
        authorization(exp=NOW + 86400),
        authorization(sub="https://example.com/contact"),
    ],
)
def test_tokens_that_the_standard_allows_are_accepted(header: str) -> None:
    assert vapid.sender(header, ORIGIN, NOW) == point(KEY.public_key())


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "must be `vapid"),
        ("Bearer abc", "must be `vapid"),
        ("vapid k=abc", "no t="),
        (authorization().partition(",")[0], "no k="),
        (authorization(k="abc"), "k must be an uncompressed point"),
        (authorization(k=jws.encoded(b"\x04" * 65)), "k must be an uncompressed point"),
        (authorization(key=ec.generate_private_key(ec.SECP256R1())), "signed by another key"),
        ("vapid t=a.b.c, k=" + jws.encoded(point(KEY.public_key())), "not JSON"),
        (authorization(aud=None), "aud must be"),
        (authorization(aud=f"{ORIGIN}/"), "aud must be"),
        (authorization(aud="https://127.0.0.1:8089"), "aud must be"),
        (authorization(exp=None), "exp must be Unix seconds"),
        (authorization(exp=NOW), "exp has passed"),
        (authorization(exp=NOW + 86401), "within 24 hours"),
        (authorization(sub=None), "sub must be"),
        (authorization(sub="mailto: ops@example.com"), "sub must be"),
        (authorization(sub="mailto:ops@localhost"), "sub must be"),
        (authorization(sub="ops@example.com"), "sub must be"),
    ],
)
def test_a_sender_names_itself_and_the_audience_for_a_day_at_most(header: str, why: str) -> None:
    with pytest.raises(jws.InvalidToken, match=why):
        vapid.sender(header, ORIGIN, NOW)


# Content of messages


def example() -> tuple[bytes, Subscription]:
    vector = VECTORS["rfc8291-5-appendixA"]
    number = int.from_bytes(jws.decoded(vector["inputs"]["ua_private"]))
    key = ec.derive_private_key(number, ec.SECP256R1())
    subscription = Subscription("x", key, jws.decoded(vector["inputs"]["auth_secret"]), bytes(16))
    return jws.decoded(vector["expected"]["body"]), subscription


def push(body: bytes, **headers: str) -> Call:
    return Call("POST", "/push/x", {}, CIMultiDict(headers), body)


def test_the_example_of_the_standard_is_read() -> None:
    body, subscription = example()
    found = webpush.read_body(push(body, **{"content-encoding": "aes128gcm"}), subscription, b"")
    assert found == VECTORS["rfc8291-5-appendixA"]["inputs"]["plaintext_utf8"].encode()


def encrypted(size: int, rs: int = 4096) -> bytes:
    _, subscription = example()
    receiver = point(subscription.private_key.public_key())
    made: bytes = http_ece.encrypt(
        b"x" * size,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=receiver,
        auth_secret=subscription.auth,
        version="aes128gcm",
        rs=rs,
    )
    return made


def test_the_largest_push_and_an_empty_one_are_accepted() -> None:
    _, subscription = example()
    assert (
        len(webpush.read_body(push(encrypted(3993), **{"content-encoding": "aes128gcm"}), subscription, b""))
        == 3993
    )
    assert webpush.read_body(push(b""), subscription, b"") == b""


@pytest.mark.parametrize(
    ("body", "coding", "sender", "found"),
    [
        (b"", "aes128gcm", b"", (400, "without a body")),
        (encrypted(3994), "aes128gcm", b"", (413, "at most 4096")),
        (encrypted(100, rs=50), "aes128gcm", b"", (400, "more than one record")),
        (encrypted(1), "aesgcm", b"", (400, "must be aes128gcm")),
        (encrypted(1), "", b"", (400, "must be aes128gcm")),
        (b"x", "aes128gcm", b"", (400, "not aes128gcm")),
        (bytes(200), "aes128gcm", b"", (400, "not aes128gcm")),
        (encrypted(1)[:-1], "aes128gcm", b"", (400, "could not decrypt")),
        (example()[0][:-1] + b"x", "aes128gcm", b"", (400, "could not decrypt")),
        (example()[0], "aes128gcm", example()[0][21:86], (400, "must not be that of VAPID")),
    ],
)
def test_a_body_is_one_record_for_this_browser(
    body: bytes, coding: str, sender: bytes, found: tuple[int, str]
) -> None:
    call = push(body, **({"content-encoding": coding} if coding else {}))
    with pytest.raises(webpush.Wrong, match=found[1]) as caught:
        webpush.read_body(call, example()[1], sender)
    assert caught.value.status == found[0]


@pytest.mark.parametrize(
    ("headers", "number"),
    [
        ({}, 111),
        ({"ttl": ""}, 112),
        ({"ttl": "-1"}, 112),
        ({"ttl": "1.5"}, 112),
        ({"ttl": "soon"}, 112),
        ({"ttl": "0", "urgency": "urgent"}, 999),
        ({"ttl": "0", "topic": ""}, 113),
        ({"ttl": "0", "topic": "a b"}, 113),
        ({"ttl": "0", "topic": "x" * 33}, 113),
        ({"ttl": "0", "topic": "x" * 13}, 113),
    ],
)
def test_a_wrong_header_is_refused(headers: dict[str, str], number: int) -> None:
    with pytest.raises(webpush.Wrong) as caught:
        webpush.check_headers(headers)
    assert (caught.value.status, caught.value.number) == (400, number)


def test_valid_headers_are_accepted() -> None:
    assert webpush.check_headers({"ttl": "60", "urgency": "very-low", "topic": "x" * 32}) == 60


# Subscriptions


def test_a_subscription_is_valid_after_a_restart_and_for_its_own_sandbox_only() -> None:
    made = Subscriptions(b"secret").make()
    found = Subscriptions(b"secret").find(made.identity)
    assert found is not None
    assert (found.auth, found.private_key.private_numbers()) == (
        made.auth,
        made.private_key.private_numbers(),
    )
    assert Subscriptions(b"another").find(made.identity) is None
    for wrong in (
        "",
        "abc",
        "%",
        made.identity[:-1],
        "A" + made.identity[1:] if made.identity[0] != "A" else "B",
    ):
        assert Subscriptions(b"secret").find(wrong) is None


def test_a_subscription_accepts_the_key_that_it_was_made_with() -> None:
    subscriptions, key = Subscriptions(b"secret"), point(KEY.public_key())
    other = point(ec.generate_private_key(ec.SECP256R1()).public_key())
    bound, free = subscriptions.make(key), subscriptions.make()
    assert (bound.accepts(key), bound.accepts(other), free.accepts(key), free.accepts(other)) == (
        True,
        False,
        True,
        True,
    )


class Judge:
    """An emulator with a fixed clock. The request of `ask` differs from a right one in one detail."""

    def __init__(self, identity: Identity) -> None:
        self.subscriptions = Subscriptions(b"secret")
        self.emulator = WebPushEmulator(identity, self.subscriptions, lambda: NOW)

    def judge(self, identity: str = "", method: str = "POST", **headers: str | None) -> Verdict:
        path = f"/push/{identity or self.subscriptions.make().identity}"
        given = {"host": HOST, "ttl": "60", "authorization": authorization(), **headers}
        kept = CIMultiDict({name: value for name, value in given.items() if value is not None})
        return self.emulator.judge(Call(method, path, {}, kept, b""))


@pytest.fixture
def judge(identity: Identity) -> Judge:
    return Judge(identity)


def test_a_valid_push_gets_a_location_and_its_ttl(judge: Judge) -> None:
    answer = judge.judge(ttl="99999999").answer
    assert (answer.status, answer.headers["TTL"]) == (201, "2419200")
    assert answer.headers["Location"].startswith(f"{ORIGIN}/messages/")


@pytest.mark.parametrize(
    ("differing", "status", "number"),
    [
        ({"method": "PUT"}, 405, 999),
        ({"identity": "none"}, 404, 102),
        ({"authorization": None}, 401, 109),
        ({"authorization": authorization(exp=1)}, 403, 109),
        ({"host": "example.com"}, 403, 109),
        ({"ttl": None}, 400, 111),
    ],
)
def test_a_wrong_push_is_refused(judge: Judge, differing: dict[str, Any], status: int, number: int) -> None:
    answer = judge.judge(**differing).answer
    document = json.loads(answer.body)
    assert (answer.status, document["code"], document["errno"]) == (status, status, number)


def test_an_ended_subscription_is_gone_and_another_key_is_refused(judge: Judge) -> None:
    bound = judge.subscriptions.make(point(ec.generate_private_key(ec.SECP256R1()).public_key()))
    answer = judge.judge(bound.identity).answer
    assert (answer.status, b"VapidPkHashMismatch" in answer.body) == (403, True)
    judge.subscriptions.end(bound.identity)
    assert judge.judge(bound.identity).answer.status == 410


def test_an_injected_failure_has_mozilla_s_form(judge: Judge) -> None:
    answer = judge.emulator.failed(Answer(503, headers={"Retry-After": "9"}), Answer(201), "")
    assert (json.loads(answer.body)["errno"], answer.headers) == (201, {"Retry-After": "9"})


# Over sockets


@pytest.fixture
async def sender(sandbox: Sandbox) -> AsyncIterator[Sender[WebPush]]:
    async with conftest.webpush(sandbox) as sender:
        yield sender


async def test_a_push_arrives_and_is_shown_as_the_browser_sees_it(user: Any, sender: Sender[WebPush]) -> None:
    subscription = await user.get("/_sandbox/subscriptions")
    found = await sender.push({"subscription": subscription, "urgency": "high", "topic": "scores"})
    assert isinstance(found, Delivered)
    assert found.provider_id.startswith(f"{user.sandbox.url}/messages/")
    (entry,) = user.sandbox.request_log.latest()
    assert (entry["event"], entry["body"]) == ("high scores", '{"title": "Hi"}')
    assert subscription["endpoint"].endswith(entry["target"])


async def test_a_page_subscribes_with_its_key_and_a_user_leaves(user: Any, sender: Sender[WebPush]) -> None:
    key = jws.encoded(point(KEY.public_key()))
    status, _, text = await user.ask("POST", f"/_sandbox/subscriptions?key={key}")
    assert status == 200
    # The sandbox's own key is another one; a wrong key of ours holds the lane.
    assert isinstance(await sender.push({"subscription": json.loads(text)}), Unauthorised)
    subscription = await user.get("/_sandbox/subscriptions")
    name = subscription["endpoint"].rpartition("/")[2]
    assert (await user.ask("DELETE", f"/_sandbox/subscriptions/{name}"))[0] == 200
    gone = await sender.push({"subscription": subscription})
    assert isinstance(gone, Unregistered)
    assert gone.target == subscription["endpoint"]
    assert (await user.ask("DELETE", "/_sandbox/subscriptions/none"))[0] == 404
    status, _, text = await user.ask("GET", "/_sandbox/subscriptions?key=abc")
    assert (status, "uncompressed point" in text) == (400, True)


def test_a_public_key_is_a_point_on_the_curve() -> None:
    data, _ = public_key(jws.encoded(point(KEY.public_key())))
    assert data == point(KEY.public_key())
    for wrong in ("", "abc", "%", jws.encoded(bytes(65))):
        with pytest.raises(ValueError, match="uncompressed point"):
            public_key(wrong)
