"""Valid files, the example among them, and arbitrary texts."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from providers.apns import ApnsOptions
from providers.fcm import FcmOptions
from providers.redis_ import RedisOptions
from providers.webhook import WebhookOptions
from providers.webpush import WebPushOptions
from relay.errors import ConfigError
from relay.settings.http import HttpOptions
from relay.settings.load import load, loads
from relay.settings.models import QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.settings.values import Rate
from tests.unit.settings.conftest import Problems, Read

EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"


@pytest.fixture
def shipped(adapters: dict[str, type[ProviderOptions]]) -> dict[str, type[ProviderOptions]]:
    """The adapters of the example: the real ones if they are installed."""

    def options(name: str) -> type[ProviderOptions]:
        try:
            module = import_module(f"providers.{name}")
        except ModuleNotFoundError:
            return adapters[name]
        found: type[ProviderOptions] = getattr(module, name.capitalize()).Options
        return found

    return {name: options(name) for name in ("pusher", "webhook", "http")} | {"redis": RedisOptions}


def test_the_example_is_right_as_it_stands_with_no_environment(
    shipped: dict[str, type[ProviderOptions]],
) -> None:
    found = load(EXAMPLE, shipped, {})
    assert found.path == EXAMPLE
    for name, model in shipped.items():
        common = {key: field.default for key, field in ProviderOptions.model_fields.items() if key != "type"}
        assert {key: getattr(found.providers[name], key) for key in common} == common
        assert isinstance(found.providers[name], model)
    for section in ("redis", "admin", "log", "processes", "shutdown_timeout"):
        assert getattr(found, section) == Settings.model_fields[section].default


def defaults(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Each key with its default, or None if there is no default."""
    for name, field in model.model_fields.items():
        yield name, None if field.is_required() else field.get_default(call_default_factory=True)


def test_the_example_shows_every_key_with_its_default(shipped: dict[str, type[ProviderOptions]]) -> None:
    text = EXAMPLE.read_text()
    found = load(EXAMPLE, shipped, {})
    webhook = found.providers["webhook"]
    assert isinstance(webhook, WebhookOptions)
    own = {
        name: set(model.model_fields) - set(ProviderOptions.model_fields) for name, model in shipped.items()
    }
    parts: list[tuple[BaseModel, set[str]]] = [
        (found, set(Settings.model_fields)),
        (found.redis, set(type(found.redis).model_fields)),
        (found.queues[0], set(QueueSettings.model_fields)),
        (found.providers["pusher"], set(ProviderOptions.model_fields) | own["pusher"]),
        (found.providers["pusher"].retry, {"attempts", "base", "max"}),
        (found.providers["pusher"].breaker, {"failures", "cooldown", "share", "window"}),
        (found.providers["pusher"].shares, {"normal", "low"}),
        (webhook, own["webhook"]),
        (webhook.signature, {"format", "header"}),
        (found.providers["redis"], own["redis"]),
        (found.providers["http"], own["http"]),
        (found.admin, set(type(found.admin).model_fields)),
        (found.log, set(type(found.log).model_fields)),
    ]
    for part, keys in parts:
        for key, default in defaults(type(part)):
            if key not in keys:
                continue
            if key in part.model_fields_set:
                assert default is None or getattr(part, key) == default, key
            else:
                assert default is None, f"{key} is not in the example"
                assert re.search(rf"^ *# {key}(_file)?: \S", text, re.MULTILINE), (
                    f"{key} is not in the example"
                )


def test_the_keys_that_the_example_comments_out_are_right_too(
    shipped: dict[str, type[ProviderOptions]],
) -> None:
    text = re.sub(r"^( +)# ((?![a-z_]+_file:)[a-z_]+: \S)", r"\1\2", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = text.replace("    cluster: mt1\n", "")  # `url` comes instead of it
    text = re.sub(r"    form: .*\n", "", text)  # `body` comes instead of it
    found = loads(text, EXAMPLE, shipped, {"WEBHOOK_SECRET": "whsec_" + "YWJj" * 8})
    assert found.providers["pusher"].ttl == 3600


def test_the_push_services_in_comments_of_the_example_are_valid_too(tmp_path: Path) -> None:
    """With the files that it names, as their makers give them."""
    models: dict[str, type[ProviderOptions]] = {
        "fcm": FcmOptions,
        "apns": ApnsOptions,
        "webpush": WebPushOptions,
    }
    text = EXAMPLE.read_text()
    block = text[text.index("  # fcm:") : text.index("\nadmin:")]
    active = re.sub(r"^  # ", "  ", block, flags=re.MULTILINE)
    for name, model in models.items():
        own = set(model.model_fields) - set(HttpOptions.model_fields)
        for key in own:
            assert re.search(rf"^ +(# )?{key}(_file)?: ", active, re.MULTILINE), f"{name}: {key} is not there"
    rsa_key, ec_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    pem = [
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        for key in (rsa_key, ec_key)
    ]
    account = dict.fromkeys(("client_email", "private_key_id", "token_uri", "project_id"), "x")
    (tmp_path / "firebase.json").write_text(json.dumps({**account, "private_key": pem[0]}))
    (tmp_path / "AuthKey_ABC123DEFG.p8").write_text(pem[1])
    (tmp_path / "vapid.pem").write_text(pem[1])
    path = tmp_path / "relay.yaml"
    path.write_text(f"queues: [{{name: q}}]\nproviders:\n{active}")
    found = load(path, models, {})
    for name, model in models.items():
        assert isinstance(found.providers[name], model)
        for key, default in defaults(model):
            if key in found.providers[name].model_fields_set and default is not None:
                assert getattr(found.providers[name], key) == default, key


def test_the_file_of_the_contract(read: Read) -> None:
    found = read(
        """
redis:
  url: redis://127.0.0.1:6379/0
  prefix: relay
queues:
  - name: notifications
    provider: pusher
  - {name: hits, provider: pusher, format: bare, priority: low}
providers:
  pusher:
    type: pusher
    app_id: "1"
    key: abc
    secret: ${PUSHER_SECRET}
    cluster: eu
    rate: 100/s
    burst: 20
    warmup: 60s
    concurrency: 64
    timeout: 10s
    retry: {attempts: 10, base: 1s, max: 1h}
    adaptive: false
    breaker: {failures: 20, cooldown: 30s}
    ttl: 1h
    dedup_window: 10m
    max_backlog: 100000
    order: fifo
admin: {listen: 127.0.0.1:9464, token: ${RELAY_ADMIN_TOKEN:-}}
processes: auto
shutdown_timeout: 25s
log: {level: info, format: auto}
""",
        PUSHER_SECRET="s",
    )
    pusher = found.providers["pusher"]
    assert (pusher.rate, pusher.warmup, pusher.dedup_window) == ((Rate(100, 1),), 60, 600)
    assert (pusher.retry.max, pusher.breaker.cooldown, found.shutdown_timeout) == (3600, 30, 25)
    assert found.queues[1] == QueueSettings(name="hits", provider="pusher", format="bare", priority="low")
    assert found.admin.address == ("127.0.0.1", 9464)
    assert found.path == Path("relay.yaml")


def test_anchors_and_merge_keys_share_options(read: Read) -> None:
    found = read(
        """
queues: [{name: a}]
providers:
  a: &base {type: webhook, burst: 5, timeout: 1s, retry: {attempts: 3}}
  b: {<<: *base, burst: 6}
  c: {<<: [{timeout: 2s}, *base], type: webhook}
"""
    ).providers
    assert (found["b"].burst, found["b"].timeout, found["b"].retry.attempts) == (6, 1, 3)
    assert (found["c"].burst, found["c"].timeout) == (5, 2)


@pytest.mark.parametrize("listen", ["", "''", "~", "off", "${LISTEN:-}"])
def test_the_admin_server_can_be_off(read: Read, listen: str) -> None:
    found = read(f"queues: [{{name: a}}]\nproviders: {{a: {{type: webhook}}}}\nadmin:\n  listen: {listen}\n")
    assert found.admin.address is None


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:9464", "'[::1]:9464'", "127.9.9.9:1"])
def test_loopback_needs_no_token(read: Read, listen: str) -> None:
    assert read(f"queues: [{{name: a}}]\nproviders: {{a: {{type: webhook}}}}\nadmin: {{listen: {listen}}}\n")


@pytest.mark.parametrize("prefix", ["", "\ufeff", "%YAML 1.1\n---\n"])
def test_lines_are_counted_from_the_start_of_the_file(problems: Problems, prefix: str) -> None:
    (line,) = problems(f"{prefix}queues: [{{name: a}}]\nproviders: {{a: {{type: webhook}}}}\nx: 1\n")
    assert line.startswith(f"relay.yaml:{3 + prefix.count(chr(10))}:1: x: unknown key")


KEYS = [
    "redis",
    "queues",
    "providers",
    "admin",
    "log",
    "type",
    "secret",
    "secret_file",
    "rate",
    "name",
    "url",
    "<<",
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["webhook", "${A}"]),
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
soup = st.lists(
    st.sampled_from(
        [*"{}[]:,-?&*!|>'\"%@#\n\t\\ ~<=", "${A}", "${", "$${", "a", "1", ": ", "- ", "\n  ", *KEYS]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text(string.printable), soup, documents.map(yaml.safe_dump)))
@example("0x_: 0b_")
@example("queues: " + "9" * 5000)
@example("processes: 0x" + "f" * 5000)
@example("!!int '': !!float x")
@example("? ? a\n: b")
@example("\ud800")
@example('a: "\\ud800"\nqueues: "\\ud800"')
@example("<<: [[]]")
@example("providers: {a: {type: webhook, <<: {secret: [1]}}}")
@example("{<<: {}, <<: {}}")
def test_any_text_gives_settings_or_a_config_error(text: str) -> None:
    adapters = {"webhook": ProviderOptions}
    try:
        loads(text, "relay.yaml", adapters, {"A": "a"})
        lines: tuple[str, ...] = ()
    except ConfigError as error:
        lines = error.problems or ("no problem at all",)
    for line in lines:
        assert re.match(r"relay\.yaml:[1-9][0-9]*:[1-9][0-9]*: .", line)
        assert "\n" not in line
        line.encode()  # so that it can be printed
