"""Access to the sandbox's own pages, which show messages and private keys."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox

TOKEN = "open-sésame"
OWN_PAGES = ["/", "/_sandbox/received", "/_sandbox/relay.yaml", "/_sandbox/files/apns-key.p8"]


@pytest.mark.parametrize("path", OWN_PAGES)
async def test_a_foreign_name_shows_nothing(user: Any, path: str) -> None:
    status, _, text = await user.ask("GET", path, headers={"Host": "evil.example:8089"})
    assert (status, len(text) < 200) == (421, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[bad"},
    ],
)
async def test_a_page_of_another_origin_changes_nothing(user: Any, headers: dict[str, str]) -> None:
    await user.hook()
    for method, path in (
        ("DELETE", "/_sandbox/received"),
        ("POST", "/_sandbox/faults"),
        ("POST", "/_sandbox/subscriptions"),
    ):
        status, _, _ = await user.ask(method, path, data='{"fail": 1}', headers=headers)
        assert status == 403
    assert len(await user.get("/_sandbox/received")) == 1
    assert await user.hooks(1) == [200]


async def test_its_own_page_may_change_faults(user: Any, sandbox: Sandbox) -> None:
    for origin in (sandbox.url, sandbox.url.upper().replace("HTTP", "http")):
        headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert (await user.ask("POST", "/_sandbox/faults", data="{}", headers=headers))[0] == 200


async def test_providers_are_reached_by_any_name(user: Any) -> None:
    headers = {**user.signed("{}"), "Host": "sandbox:8089"}
    assert (await user.ask("POST", "/webhook", data="{}", headers=headers))[0] == 200


async def test_a_token_opens_the_pages_by_any_name_and_nothing_else_does() -> None:
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    wrong = base64.b64encode(b"anybody:wrong").decode()
    async with Sandbox(SandboxOptions(token=TOKEN)) as sandbox, ClientSession() as session:

        async def status(authorization: str | None, method: str = "GET", **headers: str) -> int:
            given = {"Host": "sandbox.example", **headers}
            if authorization is not None:
                given["Authorization"] = authorization
            async with session.request(method, f"{sandbox.url}/_sandbox/faults", headers=given) as answer:
                assert (answer.status != 401) or "WWW-Authenticate" in answer.headers
                return answer.status

        for refused in (None, "Bearer wrong", f"Basic {wrong}", "Basic !!", f"Basic {TOKEN}", TOKEN):
            assert await status(refused) == 401, refused
        for accepted in (f"Bearer {TOKEN}", f"Basic {basic}"):
            assert await status(accepted) == 200
            # A browser sends a stored password without asking, whichever page makes the request.
            assert await status(accepted, "POST", Origin="https://evil.example") == 403
