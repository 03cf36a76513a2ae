"""No secret of the file, and no escape sequence of a message, in any output of relay."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.errors import ConfigError
from relay.provider import discover
from relay.settings.load import load
from testing.ports import free_port
from testing.receiver import Answer, Received, Receiver
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, environment, relay, worker, write_config
from testing.site import PUSHER, Site
from testing.streams import entries_of


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


MARKERS = {
    "redis": "marker-of-redis",
    "token": "marker-of-admin",
    "header": "marker-of-header",
    "proxy": "marker-of-proxy",
    "http": "marker:of http",
    "pusher": "marker-of-pusher",
    "webhook": base64.b64encode(b"marker-of-webhook-secret").decode(),
    "apns": pem(ec.generate_private_key(ec.SECP256R1())),
    "fcm": pem(rsa.generate_private_key(65537, 2048)),
}


def pieces(secret: str) -> list[str]:
    """The parts of a secret that must not be shown: for a key, each of its lines."""
    lines = [line for line in secret.splitlines() if line and not line.startswith("-----")]
    return [form for line in lines for form in (line, quote(line), quote(line, safe=":"))]


def leaks(outputs: Iterable[str], more: Iterable[str] = ()) -> set[str]:
    text = "\n".join(outputs)
    secrets = [piece for secret in MARKERS.values() for piece in pieces(secret)]
    return {secret for secret in (*secrets, *more) if secret in text}


OF_ENDPOINT = {
    "v1": base64.b64encode(b"marker-of-an-endpoint").decode(),
    "no prefix": base64.b64encode(b"marker-without-prefix").decode(),
    "v1a": base64.b64encode(b"marker-of-an-endpoint-in-ed25519"[:32]).decode(),
}
"""Secrets of an endpoint, without their prefixes."""


def echo(request: Received) -> Answer:
    """A receiver in debug mode: it refuses, and its answer repeats the whole request and the secrets that it
    expected."""
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    if request.path == "/hook":
        lines += [f"not signed by whsec_{secret} ({secret})" for secret in OF_ENDPOINT.values()]
    body = "\n".join([request.path, *map(str, request.query.items()), *lines]).encode() + request.body
    return Answer(400, body, {"Location": f"/?{lines}"})


def configuration(folder: Path, redis_server: RedisServer, receiver: Receiver) -> Path:
    account = {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "k1",
        "private_key": MARKERS["fcm"],
        "client_email": "relay@shop.example",
        "token_uri": f"{receiver.url}/token",
    }
    refused = f"http://relay:{MARKERS['proxy']}@127.0.0.1:{free_port()}"
    common = {"retry": {"attempts": 1}}
    headers = {"Authorization": f"Bearer {MARKERS['header']}", "X-Api-Key": MARKERS["header"]}
    hook = {
        **common,
        "type": "webhook",
        "url": f"{receiver.url}/hook",
        "secret": f"whsec_{MARKERS['webhook']}",
        "headers": headers,
    }
    providers = {
        "hook": hook,
        "proxied": {**hook, "proxy": refused},
        "api": {
            **common,
            "type": "http",
            "url": f"{receiver.url}/bot${{provider.secret}}/send?key=${{provider.secret}}",
            "secret": MARKERS["http"],
            "body": {"token": "${provider.secret}"},
        },
        "pusher": {**common, **PUSHER, "secret": MARKERS["pusher"], "url": receiver.url},
        "fcm": {**common, "type": "fcm", "service_account": json.dumps(account), "url": receiver.url},
        "apns": {
            **common,
            "type": "apns",
            "key": MARKERS["apns"],
            "key_id": "ABC123DEFG",
            "team_id": "DEF123GHIJ",
            "topic": "a.b",
            "url": receiver.url,
        },
    }
    return write_config(
        folder,
        # A user without a password takes any.
        redis_server.url.replace("redis://", f"redis://default:{MARKERS['redis']}@"),
        providers,
        [{"name": "notifications", "provider": "hook", "providers": "*"}],
        admin={"listen": f"127.0.0.1:{free_port()}", "token": MARKERS["token"]},
        log={"level": "debug"},
    )


PAYLOADS = {
    "hook": {
        "body": {"a": 1},
        "headers": {"X-Auth-Token": "marker-of-message"},
        "secrets": [f"whsec_{OF_ENDPOINT['v1']}", OF_ENDPOINT["no prefix"], f"whsk_{OF_ENDPOINT['v1a']}"],
    },
    "proxied": {"body": 1},
    "api": {"text": "hello"},
    "pusher": {"channel": "c", "event": "e", "data": 1},
    "fcm": {"token": "abc"},
    "apns": {"device_token": "00fc", "aps": {}},
}


OF_ENDPOINT_WITH_PREFIX = f"whsec_{OF_ENDPOINT['v1']}"
MISSPELT: dict[str, Any] = {
    "body": 1,
    "secret": OF_ENDPOINT["no prefix"],
    "endpoint": {"key": OF_ENDPOINT_WITH_PREFIX},
}


def malformed() -> list[str]:
    """Elements that become dead letters as they are, written in the ways in which applications go wrong."""
    message = {"provider": "hook", "id": "malformed", "payload": PAYLOADS["hook"]}
    text = json.dumps(message)
    return [
        text[:-1],
        text[: text.index("whsk_") + 20],
        str(message),
        json.dumps(text),
        json.dumps({**message, "payload": text}),
        json.dumps({**message, "payload": [PAYLOADS["hook"]]}),
        json.dumps({**message, OF_ENDPOINT_WITH_PREFIX: 1}).replace("/", "\\/"),
        json.dumps({**message, "created_at": OF_ENDPOINT_WITH_PREFIX}),
    ]


async def test_no_output_contains_a_secret(site: Site) -> None:
    config = configuration(site.folder, site.server, site.receiver)
    admin = json_of(config)["admin"]["listen"]
    site.receiver.answer = echo
    said: list[str] = []
    for name, payload in PAYLOADS.items():
        message = {"provider": name, "id": name, "payload": payload, "reply_to": "receipts:all"}
        await site.push(message)
    await site.push({"payload": MISSPELT}, *malformed())
    async with worker(config) as running:
        await site.receiver.until(3)
        letters = {"hook": 2 + len(malformed()), "proxied": 1, "api": 1}
        while [await site.redis.xlen(f"relay:{{{name}}}:dead") for name in letters] != [*letters.values()]:
            await asyncio.sleep(0.02)
        while await site.redis.llen("receipts:all") < 3:
            await asyncio.sleep(0.02)
        bearer = {"Authorization": f"Bearer {MARKERS['token']}"}
        async with ClientSession() as session:
            for path in ("metrics", "metrics/fleet", "healthz", "nothing"):
                async with session.get(f"http://{admin}/{path}", headers=bearer) as answer:
                    said += [await answer.text(), str(answer.headers)]
    said += [json.dumps(line) for line in running.lines]
    receipts: Any = await site.redis.lrange("receipts:all", 0, -1)
    said += [receipt.decode() for receipt in receipts]
    commands = [
        ["check", "--connect"],
        ["status", "--json"],
        ["dead", "list", "hook"],
        ["dead", "show", "hook", "--limit", "20"],
        *(["dead", "show", name] for name in ("proxied", "api")),
        ["dead", "list", "notifications", "--json"],
        ["push", "notifications", json.dumps({"payload": MISSPELT, OF_ENDPOINT_WITH_PREFIX: 1})],
        [
            "push",
            "notifications",
            json.dumps({"payload": {"body": 1, "headers": {OF_ENDPOINT_WITH_PREFIX: 1}}}),
        ],
    ]
    for ended in await asyncio.gather(*(relay(*command, "-c", str(config)) for command in commands)):
        assert ended.out or ended.err
        said += [ended.out, ended.err]
    echoed = [request.headers.get("authorization", "") for request in site.receiver.requests]
    tokens = {token.split()[-1] for token in echoed if token}
    assert MARKERS["header"] in tokens
    # Tokens that were made from keys are secrets too.
    endpoint = {secret.rstrip("=") for secret in OF_ENDPOINT.values()}
    assert not leaks(said, {*tokens, *endpoint, "marker-of-message"})
    assert "not signed by ***" in "".join(said)
    assert '"[redacted]",' in "".join(said)
    letters_in_redis = [fields for _, fields in await entries_of(site.redis, "relay:{hook}:dead")]
    assert not leaks(fields[b"reason"].decode() for fields in letters_in_redis)
    assert not [fields for fields in letters_in_redis if OF_ENDPOINT["v1"].encode() in fields[b"reason"]]
    # Redis holds the message as it was pushed, so that a retry can sign again.
    assert [fields for fields in letters_in_redis if OF_ENDPOINT["v1"].encode() in fields.get(b"record", b"")]


async def test_a_file_that_gives_credentials_or_one_secret_to_all_is_checked(open_folder: Path) -> None:
    hook: dict[str, Any] = {"type": "webhook", "secret": "whsec_bWFya2VyLW9mLWVuZHBvaW50LXNlY3JldA=="}
    config = write_config(open_folder, "redis://127.0.0.1", {"hook": hook})
    config.chmod(0o644)
    warned = await relay("check", "-c", str(config))
    assert warned.code == 0
    assert "all URLs that messages bring share a whsec_ secret" in warned.out
    assert f"chmod o-r {config}" in " ".join(warned.out.split())
    hook["headers"] = {"Authorization": "Bearer marker"}
    config = write_config(open_folder, "redis://127.0.0.1", {"hook": hook})
    refused = await relay("check", "-c", str(config))
    assert refused.code == 2
    line = next(n for n, text in enumerate(config.read_text().splitlines(), 1) if "Authorization" in text)
    assert f"{config}:{line}:" in refused.err
    assert "Authorization would go to the URL of any message" in refused.err
    assert "send_credentials_to_any_url: true" in refused.err


BROKEN = [
    ("level: debug", "level: [debug"),
    ("type: webhook", "type: webhok"),
    ("secret:", "secrt:"),
    ("proxy: http://", "proxy: gopher://"),
    ("app_id: '3'", "app_id: [3]"),
    ("team_id:", "team:"),
    ("redis://", "rdis://"),
    ("service_account: '", "service_account: '!"),
]


@pytest.mark.parametrize(("old", "new"), BROKEN)
async def test_no_error_about_a_file_contains_a_secret(site: Site, old: str, new: str) -> None:
    config = configuration(site.folder, site.server, site.receiver)
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    adapters = {name: adapter.Options for name, adapter in discover().items()}
    with pytest.raises(ConfigError) as caught:
        load(config, adapters)
    assert not leaks([str(caught.value), repr(caught.value)])


def json_of(config: Path) -> Any:
    return yaml.safe_load(config.read_text())


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202etxt"
OBEYED = (b"\x1b[2J", b"\x1b]0;", b"\x07", "\x9b".encode(), "\u202e".encode())


async def on_a_terminal(*words: str) -> bytes:
    """The output of a command on a terminal, standard error included."""
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        RELAY,
        *words,
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(TERM="xterm-256color", COLUMNS="200"),
    )
    os.close(its)
    written = b""
    loop = asyncio.get_running_loop()
    while True:
        try:
            part = await loop.run_in_executor(None, os.read, ours, 65536)
        except OSError:  # the other end is closed
            break
        written += part
        if not part:
            break
    os.close(ours)
    await process.wait()
    return written


async def test_no_message_commands_a_terminal(site: Site) -> None:
    site.receiver.answer = lambda request: Answer(400, f"no {HOSTILE}".encode())
    config = site.configure({"hook": {"type": "webhook", "url": site.receiver.url}})
    elements = [
        {"id": f"a{HOSTILE}", "payload": {"body": f"b{HOSTILE}"}},
        {"id": "b[red]markup[/red]", "payload": {"body": 1}},
        {"payload": {"body": 1}, f"unknown{HOSTILE}": 1},
        {"payload": {"url": f"http://x/{HOSTILE}", "body": 1}},
        {"provider": f"none{HOSTILE}", "payload": {}},
        {"payload": {"body": 1}, "reply_to": f"relay:{HOSTILE}"},
    ]
    texts = [json.dumps(element, ensure_ascii=False) for element in elements]
    await site.push(*texts, b"\xff" + HOSTILE.encode())
    async with site.worker("--until-empty") as running:
        assert await running.ended() == 0
    shown = b""
    for command in (["dead", "list", "hook"], ["dead", "show", "hook", "--limit", "9"], ["status"]):
        shown += await on_a_terminal(*command, "-c", str(config))
    assert not [sequence for sequence in OBEYED if sequence in shown]
    assert rb"\x1b[2J" in shown, f"it is shown as what it is: {shown.decode()}"
    assert b"[red]markup" in shown
    found = await site.relay("dead", "show", "hook", "--limit", "9", "--json")
    assert f"a{HOSTILE}" in {letter.get("id") for letter in found.json}, "and data stay what they are"
    assert not [sequence for sequence in OBEYED if sequence in found.out.encode()]


async def test_a_log_on_a_terminal_obeys_no_message(site: Site) -> None:
    config = site.configure(
        {"hook": {"type": "webhook", "url": site.receiver.url}}, log={"format": "console"}
    )
    element = {"payload": {}, f"unknown{HOSTILE}\n2026-11-21T08:00:00Z [info] forged": 1}
    await site.push(element)
    written = await on_a_terminal("run", "-c", str(config), "--until-empty")
    assert b"dead letter" in written
    assert not [sequence for sequence in OBEYED if sequence in written]
    assert not [
        line for line in written.split(b"\n") if line.startswith(b"2026-11-21T08:00:00Z [info] forged")
    ]
