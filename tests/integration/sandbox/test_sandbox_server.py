"""The server starts and stops, and its pages show received messages without running any of them."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
import yaml

from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox

EVIL = "</script><img src=x onerror=alert(1)>"


async def test_received_messages_can_be_listed_and_cleared(user: Any) -> None:
    for number in range(3):
        await user.hook(f"/webhook/{number}", message_id=f"id-{number}")
    received = await user.get("/_sandbox/received?provider=&limit=")
    assert [entry["target"] for entry in received] == ["/webhook/2", "/webhook/1", "/webhook/0"]
    assert len(await user.get("/_sandbox/received?provider=webhook&limit=1")) == 1
    assert await user.get("/_sandbox/received?provider=pusher") == []
    assert (await user.ask("GET", "/_sandbox/received?limit=many"))[0] == 400
    stats = (await user.get("/_sandbox/stats"))["webhook"]
    assert (stats["accepted"], len(stats["history"])) == (3, 60)
    assert (await user.ask("DELETE", "/_sandbox/received"))[0] == 200
    assert (await user.get("/_sandbox/stats"), await user.get("/_sandbox/received")) == ({}, [])


async def test_the_page_runs_its_own_script_only(user: Any) -> None:
    await user.hook(body=EVIL)
    status, headers, page = await user.ask("GET", "/")
    assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in headers["Content-Security-Policy"]
    assert EVIL not in page
    for markup in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http://",
        "//cdn",
    ):
        assert markup not in page.replace("http://www.w3.org/2000/svg", "")
    status, headers, text = await user.ask("GET", "/_sandbox/received")
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("application/json", "nosniff")
    assert EVIL in text


async def test_a_line_for_each_request_holds_no_control_characters(user: Any, lines: list[str]) -> None:
    await user.hook("/webhook/%1B%5B2J", body="one\ntwo\x1b[31m☃" + "x" * 200)
    assert lines == ["200 webhook /webhook/\\x1b[2J POST one\\ntwo\\x1b[31m☃" + "x" * 87]


async def test_bodies_are_cut(user: Any) -> None:
    await user.hook(body="x" * 5000)
    assert len(user.sandbox.request_log.entries[0].body) == 2000


async def test_a_wrong_url_is_reported(user: Any, lines: list[str]) -> None:
    assert (await user.ask("POST", "/app/1/events", data="x"))[0] == 404
    assert lines == ["404 unknown POST /app/1/events"]
    assert user.sandbox.request_log.stats() == {}


async def test_a_sandbox_starts_again_after_a_stop() -> None:
    sandbox = Sandbox(SandboxOptions())
    for _ in range(2):
        await sandbox.start()
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9][0-9]+", sandbox.url)
        await sandbox.stop()
        await sandbox.stop()


async def test_a_port_in_use_is_an_error(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(OSError):
        await Sandbox(SandboxOptions(port=port)).start()


async def test_a_sandbox_that_listens_everywhere_has_an_address() -> None:
    async with Sandbox(SandboxOptions(host="0.0.0.0")) as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")


async def test_the_block_of_yaml_keeps_every_text_a_text() -> None:
    async with Sandbox(SandboxOptions(key="123", secret='a: "b" # c')) as sandbox:
        providers = yaml.safe_load(sandbox.providers_yaml())["providers"]
        assert providers["pusher"] == {
            "type": "pusher",
            "app_id": "1",
            "key": "123",
            "secret": 'a: "b" # c',
            "url": sandbox.url,
        }
        assert providers["webhook"]["url"] == f"{sandbox.url}/webhook/demo"


async def test_the_block_of_yaml_can_be_fetched(user: Any) -> None:
    status, headers, text = await user.ask("GET", "/_sandbox/relay.yaml")
    assert (status, text) == (200, user.sandbox.providers_yaml())
    providers = yaml.safe_load(text)["providers"]
    assert set(providers) == {"pusher", "webhook", "fcm", "webpush", "apns"}
    assert headers["Content-Type"].startswith("text/plain")


async def test_a_missing_file_is_refused_with_the_list_of_files(user: Any) -> None:
    status, _, text = await user.ask("GET", "/_sandbox/files/ca.key")
    assert (status, text) == (
        404,
        "no such file; files: ca.pem, apns.p8, client.pem, client.key, fcm.json, vapid.pem",
    )
