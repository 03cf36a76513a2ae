"""The texts that are secrets, and their replacements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from providers.http import HttpRequestOptions
from providers.webhook import WebhookOptions
from relay.settings.credentials import names_a_secret, text_without_credentials, without_credentials
from relay.settings.models import RedisSettings
from relay.settings.redaction import secrets_in
from relay.settings.template import Template
from relay.settings.values import Secret
from relay.text import Redactor, hide_signing_secrets

PEM = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEG
c2Vjb25kIGxpbmUgb2Yga2V5
-----END PRIVATE KEY-----
"""


def template(text: str) -> Template:
    return TypeAdapter(Template).validate_python(text)


def test_secrets_of_options_are_found_wherever_they_stand() -> None:
    options = WebhookOptions(
        type="webhook",
        url="https://example.com",
        secret=Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        secrets=[Secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx")],
        headers={"Authorization": "Bearer abcdef", "X-Api-Key": "ghijkl", "X-Plain": "in the open"},
        proxy=Secret("http://me:s%40fe-word@127.0.0.1:3128"),
    )
    found = set(secrets_in(options))
    assert {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"} <= found
    assert {"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "abcdef", "ghijkl", "s%40fe-word", "s@fe-word"} <= found
    assert not {"in the open", "127.0.0.1", "me", "http://me:s%40fe-word@127.0.0.1:3128"} & found


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("redis://127.0.0.1:6379/0", set()),
        ("redis://:pass-word@h", {"pass-word"}),
        ("redis+sentinel://u:one@h:1/N/0?sentinel_password=two", {"one", "two"}),
    ],
)
def test_only_the_passwords_of_a_redis_url_are_secret(url: str, secrets: set[str]) -> None:
    assert set(secrets_in(RedisSettings(url=Secret(url)))) == secrets


def test_each_part_of_a_service_s_url_is_secret() -> None:
    found = set(secrets_in(Secret("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?avatar=no")))
    assert {"4174216298", "JHMHI8qBe7bk2ZwO5U711o3dV_js"} <= found
    assert "no" not in found


def test_a_secret_is_found_however_it_is_written() -> None:
    redactor = Redactor(secrets_in(Secret('se cret:/"é')))
    written = ["se%20cret:%2F%22%C3%A9", "se+cret%3A%2F%22%C3%A9", 'se cret:/\\"\\u00e9']
    for text in written:
        assert redactor.text(f"a {text} b") == "a *** b", text


def test_the_value_of_a_template_s_header_is_a_secret() -> None:
    options = HttpRequestOptions(
        type="http", url=template("https://x.example/"), headers={"authorization": template("Bearer abcdef")}
    )
    assert set(secrets_in(options)) == {"abcdef"}


def test_tokens_of_a_template_s_url_are_secret_and_its_host_is_not() -> None:
    url = template("https://api.telegram.example/bot4174216298-JHMHI8qBe7/sendMessage?to=${payload.to}")
    body = template("a sentence of some length about ${payload.to}, which is not a secret")
    options = HttpRequestOptions(type="http", url=url, body=body)
    assert set(secrets_in(options)) == {"bot4174216298-JHMHI8qBe7"}


def test_each_line_of_a_key_is_a_secret_by_itself() -> None:
    redactor = Redactor(secrets_in(Secret(PEM)))
    assert redactor.text("at line 3: c2Vjb25kIGxpbmUgb2Yga2V5 is wrong") == "at line 3: *** is wrong"
    assert redactor.text("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_a_longer_secret_hides_the_shorter_one_in_it() -> None:
    assert Redactor(["abcd", "abcdef"]).text("abcdef abcd") == "*** ***"
    assert Redactor(["abcd"]).data(b"\xffabcd\xff") == b"\xff***\xff"
    assert Redactor(["a", ""]).text("a banana") == "a banana"


# An asterisk next to `***` cannot be distinguished from one of it.
LETTERS = st.characters(codec="utf-8", exclude_characters="*")


@given(st.lists(st.text(LETTERS, min_size=4), max_size=5), st.text(LETTERS), st.data())
def test_no_secret_is_left(secrets: list[str], text: str, data: st.DataObject) -> None:
    for secret in secrets:
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + secret + text[at:]
    shown = Redactor(secrets).text(text)
    # The texts on both sides of a hidden secret may form another one by chance, but never across `***`.
    for part in shown.split("***"):
        assert not any(secret in part for secret in secrets)


@pytest.mark.parametrize(
    "name", ["authorization", "Proxy-Authorization", "Cookie", "X-API-Key", "auth-token"]
)
def test_headers_with_credentials_are_secret(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["content-type", "retry-after", "webhook-id", "apns-topic", "ttl"])
def test_headers_without_credentials_are_no_secret(name: str) -> None:
    assert not names_a_secret(name)


def test_a_payload_is_shown_without_its_credentials_and_secrets() -> None:
    payload = {
        "url": "https://a.example/",
        "headers": {"Authorization": "Bearer 1", "X-Plain": "Basic abc", "X-Team": "a"},
        "secrets": ["whsec_0123456789", "MfKQ9r8GKYqrTwjUPD8I"],
        "secret": "MfKQ9r8GKYqrTwjUPD8I",
    }
    assert without_credentials(payload) == {
        "url": "https://a.example/",
        "headers": {"Authorization": "***", "X-Plain": "***", "X-Team": "a"},
        "secrets": ["[redacted]", "[redacted]"],
        "secret": "[redacted]",
    }


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (
            '{"headers": {"Authorization": "Bearer \\"1"}, "b": 1',
            '{"headers": {"Authorization": "***"}, "b": 1',
        ),
        ('{"secrets": ["MfKQ9r8GKYqrTwjUPD8I"], "id": "7"', '{"secrets": "***", "id": "7"'),
        ('{"secrets": ["MfKQ", ["a]", {"b": "c"}]], "id": "7"', '{"secrets": "***", "id": "7"'),
        ('{"secrets": {"new": "MfKQ"}, "id": "7"', '{"secrets": "***", "id": "7"'),
        ('{"secrets": ["MfKQ", "b', '{"secrets": "***"'),
        ('{"secrets" :MfKQ, "id": "7"', '{"secrets" :"***", "id": "7"'),
        ('{"secrets":', '{"secrets":'),
        ('["whsk_6Xb/dCcHpPea21=="', '["***"'),
        ('{"X-Api-Key": "1234', '{"X-Api-Key": "***"'),
        ('{"payload": [{"secrets": ["MfKQ"]}, {"a": 1}]', '{"payload": [{"secrets": "***"}, {"a": 1}]'),
        ("{'secrets': ['MfKQ'], 'id': '7'}", "{'secrets': \"***\", 'id': '7'}"),
        (r'"{\"secrets\": [\"MfKQ\"], \"id\": 7}"', r'"{\"secrets\": \"***\", \"id\": 7}"'),
        (r'{"payload": "{\"secrets\": [\"MfKQ', r'{"payload": "{\"secrets\": \"***\""'),
        ('{"collapse_key": "a", "token": "b"}', '{"collapse_key": "a", "token": "b"}'),
        (r'{"text": "she said: \"it\\\'s\"", it\'s', r'{"text": "she said: \"it\\\'s\"", it\'s'),
    ],
)
def test_an_element_that_cannot_be_read_is_shown_without_credentials(raw: str, shown: str) -> None:
    assert text_without_credentials(raw) == shown


@pytest.mark.parametrize(
    "written",
    [
        "whsec_MfKQ9r8GKYqrTwjUPD8I",
        "whsk_6Xb/dCcH+Pea21==",
        r"whsk_6Xb\/dCcH\/Pea21",
        r"whsk_6Xb\\\/dCcH\u002bPea21\u003d",
        "whsk_6Xb%2FdCcH%2BPea21%3D",
        "whsec_6Xb_dCcH-Pea21",
    ],
)
def test_a_signing_secret_is_hidden_wherever_it_stands(written: str) -> None:
    assert Redactor().text(f'no secret "{written}" known') == 'no secret "***" known'
    assert Redactor(["other"]).data(f"\xff {written}\n".encode("latin-1")) == b"\xff ***\n"
    assert hide_signing_secrets("whsec_ with HMAC, whsk_… with Ed25519, whpk_MfKQ") == (
        "whsec_ with HMAC, whsk_… with Ed25519, whpk_MfKQ"
    )


@given(st.text("\"'\\[]{}:, \nab" + "sečret", max_size=60))
def test_any_text_can_be_searched_for_credentials(text: str) -> None:
    text_without_credentials(text)
    hidden = text_without_credentials(f'"secrets": ["MfKQ9r8G"], {text}')
    assert "MfKQ9r8G" not in hidden


def test_a_long_hostile_element_is_searched_to_its_end() -> None:
    for part in ('"', "'", '\\"', '{"secrets":[', '"a":[', "\\"):
        text_without_credentials(part * (65_536 // len(part)))
