"""Rights of visitors of the console, over real connections. Redis is not needed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from html import escape
from typing import Any, NoReturn

import msgspec
import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar

from relay.admin.console.api import ROUTES
from relay.admin.console.api.openapi import fields
from relay.admin.console.api.route import NoArguments, Route
from relay.admin.console.screens import SCREENS
from relay.admin.health import Health, WorkerReport
from relay.admin.host import Host
from relay.admin.server import Admin
from relay.engine.configured_intake import ConfiguredIntake
from relay.errors import StoreError
from relay.settings.models import AdminSettings, QueueSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store.deployment import Deployment
from testing.ports import free_port

OPERATOR = "operators-token-1"
VIEWER = "viewers-token-2"
TOKENS = {"token": OPERATOR, "viewer_token": VIEWER}
HOST = Host(Deployment(), [WorkerReport(pid=1, age=0.0, health=Health(worker="w", pid=1, settings=""))])
NEEDS = {
    "/lanes/{provider}/rate": '{"rate": "50/s"}',
    "/lanes/{provider}/cancel": '{"id": "order-17"}',
    "/lanes/{provider}/send-next": '{"id": "order-17"}',
    "/queues/{queue}/push": '{"message": "{}"}',
    "/configuration/check": '{"text": "queues: []"}',
    "/dead/text": '{"letter": {"entry": "1800000000000-0", "provider": "hook"}}',
    "/dead/edit": '{"letter": {"entry": "1800000000000-0", "provider": "hook"}, "text": "{}"}',
}
"""Arguments of routes that need some."""

EXPORTS = ("/api/v1/dead/export", "/api/v1/feedback/export")

WITHOUT_REDIS = {"/configuration/check": 200, "/jobs/{job}": 404, "/jobs/{job}/stop": 404}
"""Routes that need no Redis, and their statuses."""

NO_REDIS = 503
"""The status of a request that was admitted: there is no Redis in these tests."""


async def no_redis() -> NoReturn:
    raise StoreError("no Redis here")


class Browser:
    """A client that keeps cookies and sends the headers of a browser."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def get(self, path: str, **headers: str) -> ClientResponse:
        answer = await self._session.get(self.url + path, headers=headers, allow_redirects=False)
        await answer.read()
        return answer

    async def post(
        self, path: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> ClientResponse:
        """Post as a page of this origin does, unless `headers` are given."""
        sent = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"} if headers is None else headers
        answer = await self._session.post(self.url + path, headers=sent, allow_redirects=False, **options)
        await answer.read()
        return answer

    async def log_in(self, token: str, **fields: str) -> ClientResponse:
        return await self.post("/login", data={"token": token, **fields})


@asynccontextmanager
async def console(**admin: Any) -> AsyncIterator[Browser]:
    """Serve a console, and yield a browser for it."""
    port = free_port()
    settings = Settings(
        queues=[QueueSettings(name="q")],
        providers={"hook": ProviderOptions(type="webhook")},
        admin=AdminSettings(listen=f"127.0.0.1:{port}", **admin),
    )
    server = Admin(settings, no_redis, lambda: HOST, partial(ConfiguredIntake, settings=settings))
    assert server.open()
    serving = asyncio.create_task(server.run())
    try:
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
            yield Browser(session, f"http://127.0.0.1:{port}")
    finally:
        serving.cancel()
        await asyncio.wait({serving})


def filled(path: str) -> str:
    """Return a path with a name for each of its parts."""
    return re.sub(r"\{\w+\}", "name", path)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_page_leads_to_the_log_in_and_the_api_answers_401() -> None:
    async with console(**TOKENS) as browser:
        for path in ("/", "/lanes/hook", "/queues", "/nothing"):
            answer = await browser.get(path)
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/login")
        for path in ("/api/v1/overview", "/api/v1/lanes/hook", "/api/v1/nothing", "/healthz", "/metrics"):
            answer = await browser.get(path)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await browser.get("/api/v1/overview")).content_type == "application/json"


async def test_the_routes_that_others_rely_on_are_there() -> None:
    found = {(route.method, route.path) for route in ROUTES}
    reads = ("overview", "lanes", "lanes/{provider}", "messages/{id}", "dead", "queues", "workers", "audit")
    acts = ("lanes/{provider}/pause", "lanes/{provider}/resume", "lanes/{provider}/rate")
    assert found >= {("GET", f"/{path}") for path in reads}
    assert found >= {("POST", f"/{path}") for path in (*acts, "dead/retry", "dead/purge")}


async def test_no_screen_stream_or_route_opens_without_credentials() -> None:
    async with console(**TOKENS) as browser:
        for screen in SCREENS:
            path = filled(screen.path)
            for each in (path, f"{path.rstrip('/')}/live") if screen.every else (path,):
                answer = await browser.get(each)
                assert (answer.status, answer.headers["Location"][:6]) == (303, "/login"), each
        for route in ROUTES:
            path = f"/api/v1{filled(route.path)}"
            get = browser.get(path) if route.method == "GET" else browser.post(path, json={})
            assert (await get).status == 401, path
        for path in EXPORTS:
            assert (await browser.get(path)).status == 401


@pytest.mark.parametrize("proof", ["session", "bearer"])
async def test_a_viewer_sees_everything_and_changes_nothing_and_an_operator_may_do_both(proof: str) -> None:
    for token, acts in ((OPERATOR, NO_REDIS), (VIEWER, 403)):
        async with console(**TOKENS) as browser:
            headers = bearer(token) if proof == "bearer" else {}
            if proof == "session":
                await browser.log_in(token)
            for path in (*(filled(screen.path) for screen in SCREENS), *EXPORTS):
                assert (await browser.get(path, **headers)).status == NO_REDIS, path
            for route in ROUTES:
                path = f"/api/v1{filled(route.path)}"
                if route.method == "GET":
                    expected = 404 if route.path in WITHOUT_REDIS else NO_REDIS
                    assert (await browser.get(path, **headers)).status == expected, path
                    continue
                sent = {**headers, "Origin": browser.url}
                answer = await browser.post(path, sent, data=NEEDS.get(route.path, "{}"))
                # Redis says whether a session was ended, before it may act.
                free = acts == NO_REDIS and proof == "bearer"
                assert answer.status == (WITHOUT_REDIS.get(route.path, acts) if free else acts), path


async def test_no_action_is_taken_for_a_page_of_another_origin() -> None:
    async with console(**TOKENS) as browser:
        await browser.log_in(OPERATOR)
        for route in ROUTES:
            if route.method == "POST":
                path = f"/api/v1{filled(route.path)}"
                for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
                    answer = await browser.post(path, headers, data=NEEDS.get(route.path, "{}"))
                    assert answer.status == 403, (path, headers)


async def test_a_page_names_its_environment_in_its_colour() -> None:
    for name, kind in (("production", "production"), ("Staging 2", "staging"), ("<i>demo", "other")):
        async with console(environment=name) as browser:
            page = await (await browser.get("/")).text()
            assert f'<span class="badge badge-{kind}">{escape(name)}</span>' in page


@pytest.mark.parametrize(("token", "may_act"), [(OPERATOR, True), (VIEWER, False)])
async def test_a_log_in_opens_pages_and_only_operators_may_act(token: str, may_act: bool) -> None:
    async with console(**TOKENS) as browser:
        answer = await browser.log_in(token, next="/queues")
        assert (answer.status, answer.headers["Location"]) == (303, "/queues")
        assert (await browser.get("/")).status == NO_REDIS
        assert (await browser.get("/api/v1/overview")).status == NO_REDIS
        paused = await browser.post("/api/v1/lanes/hook/pause", json={})
        assert paused.status == (NO_REDIS if may_act else 403)


@pytest.mark.parametrize(("token", "may_act"), [(OPERATOR, True), (VIEWER, False)])
async def test_a_program_uses_the_token_as_a_bearer(token: str, may_act: bool) -> None:
    async with console(**TOKENS) as browser:
        assert (await browser.get("/api/v1/overview", **bearer(token))).status == NO_REDIS
        assert (await browser.get("/healthz", **bearer(token))).status == 200
        paused = await browser.post("/api/v1/lanes/hook/pause", bearer(token), json={})
        assert paused.status == (NO_REDIS if may_act else 403)


async def test_the_cookie_of_a_session_is_out_of_reach_of_scripts_and_other_sites() -> None:
    async with console(**TOKENS) as browser:
        cookie = (await browser.log_in(OPERATOR)).headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Max-Age=43200", "Path=/"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        assert OPERATOR not in cookie


async def test_a_log_in_makes_a_new_session_with_any_cookie() -> None:
    async with console(**TOKENS) as browser:
        first = (await browser.log_in(VIEWER)).cookies["relay_session"].value
        second = (await browser.log_in(OPERATOR)).cookies["relay_session"].value
        assert first != second
        await browser.post("/logout")
        planted = await browser.get("/api/v1/overview", Cookie="relay_session=operator.chosen.9999999999.00")
        assert planted.status == 401


async def test_a_log_out_ends_the_session_even_for_a_copied_cookie() -> None:
    async with console(**TOKENS) as browser:
        cookie = (await browser.log_in(VIEWER)).cookies["relay_session"].value
        answer = await browser.post("/logout")
        assert (answer.status, answer.headers["Location"]) == (303, "/login")
        assert (await browser.get("/")).status == 303
        assert (await browser.get("/api/v1/overview", Cookie=f"relay_session={cookie}")).status == 401


async def test_a_token_cannot_be_guessed_by_trying_many() -> None:
    async with console(**TOKENS) as browser:
        statuses = [(await browser.log_in(f"guess-{number}")).status for number in range(11)]
        assert statuses == [401] * 10 + [429]
        refused = await browser.log_in(OPERATOR)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        # The API is no way around it.
        assert (await browser.get("/api/v1/overview", **bearer(OPERATOR))).status == 429


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "SELF"},
        {"Origin": "http://[::bad"},
    ],
)
@pytest.mark.parametrize("admin", [TOKENS, {}], ids=["with a session", "without a token"])
async def test_a_page_of_another_origin_can_change_nothing(
    headers: dict[str, str], admin: dict[str, str]
) -> None:
    async with console(**admin) as browser:
        if admin:
            await browser.log_in(OPERATOR)
        sent = {name: browser.url if value == "SELF" else value for name, value in headers.items()}
        for path in ("/api/v1/lanes/hook/pause", "/api/v1/lanes/hook/resume"):
            assert (await browser.post(path, sent, json={})).status == 403
        if admin:
            assert (await browser.post("/logout", sent)).status == 403


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
async def test_either_header_proves_a_page_of_this_console(name: str) -> None:
    async with console() as browser:
        headers = {name: browser.url if name == "Origin" else "same-origin"}
        assert (await browser.post("/api/v1/lanes/hook/pause", headers, json={})).status == NO_REDIS


async def test_a_console_without_a_token_acts_only_by_the_names_of_its_host() -> None:
    async with console() as browser:
        assert (await browser.get("/login")).status == 303
        for path in ("/", "/login", "/api/v1/overview", "/static/x/console.css"):
            assert (await browser.get(path, Host="evil.example")).status == 421


@pytest.mark.parametrize(
    "after", ["//evil.example", "https://evil.example", "/\\evil.example", "/\nX: y", "evil", ""]
)
async def test_a_log_in_leads_to_no_other_site(after: str) -> None:
    async with console(**TOKENS) as browser:
        assert (await browser.log_in(OPERATOR, next=after)).headers["Location"] == "/"


async def test_every_answer_forbids_frames_caches_and_foreign_content() -> None:
    async with console(**TOKENS) as browser:
        policy = (await browser.get("/login")).headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        paths = ["/login", "/healthz", "/nothing", *EXPORTS, *(filled(screen.path) for screen in SCREENS)]
        paths += [f"/api/v1{filled(route.path)}" for route in ROUTES]
        for log_in in (False, True):
            if log_in:
                await browser.log_in(OPERATOR)
            for path in paths:
                headers = (await browser.get(path)).headers
                assert headers["X-Frame-Options"] == "DENY"
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert headers["Cache-Control"] == "no-store"
                assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
                assert "Access-Control-Allow-Origin" not in headers


async def test_a_trusted_proxy_names_the_client() -> None:
    async with console(**TOKENS, trusted_proxies=["127.0.0.0/8"], base_path="/relay") as browser:
        forwarded = {
            "X-Forwarded-Host": "relay.example",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "6.6.6.6, 203.0.113.7",
            "Origin": "https://relay.example",
        }
        answer = await browser.post("/relay/login", forwarded, data={"token": OPERATOR})
        assert answer.headers["Location"] == "/relay/"
        assert {"Secure", "Path=/relay/"} <= set(answer.headers["Set-Cookie"].split("; "))
        for number in range(12):
            guess = {**forwarded, "X-Forwarded-For": f"10.9.8.{number}, 203.0.113.9"}
            answer = await browser.post("/relay/login", guess, data={"token": "wrong"})
        assert answer.status == 429, "an invented address does not help"
        assert (await browser.post("/relay/login", forwarded, data={"token": OPERATOR})).status == 303


async def test_headers_of_anybody_else_count_for_nothing() -> None:
    async with console(trusted_proxies=["10.1.1.1"]) as browser:
        forwarded = {"X-Forwarded-Host": "127.0.0.1", "Host": "evil.example"}
        assert (await browser.get("/api/v1/overview", **forwarded)).status == 421
        stolen = {"X-Forwarded-Host": "evil.example", "Origin": "https://evil.example"}
        assert (await browser.post("/api/v1/lanes/hook/pause", stolen, json={})).status == 403


async def test_pages_are_found_with_and_without_the_base_path() -> None:
    async with console(base_path="/ops/relay") as browser:
        for path in ("/", "/ops/relay/", "/ops/relay/queues", "/ops/relay/api/v1/overview"):
            assert (await browser.get(path)).status == NO_REDIS
        answer = await browser.get("/ops/relay")
        assert (answer.status, answer.headers["Location"]) == (303, "/ops/relay/")
        assert 'href="/ops/relay/queues"' in await (await browser.get("/")).text()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{", "truncated"),
        ("[]", "object"),
        ('{"forever": true}', "forever"),
        ('{"for": 3}', "for"),
        ('{"for": "soon"}', "soon"),
        ("\udcff".encode("utf-8", "surrogateescape"), "wrong arguments"),
        (b'{"because": "' + b"x" * 3_000_000 + b'"}', "larger"),
    ],
    ids=["half", "a list", "unknown", "a number", "no duration", "no text", "huge"],
)
async def test_wrong_arguments_are_answered_with_the_reason(body: str | bytes, problem: str) -> None:
    async with console() as browser:
        answer = await browser.post("/api/v1/lanes/hook/pause", data=body)
        assert answer.status == 400
        assert problem in (await answer.json())["error"]


async def test_a_name_in_a_path_may_have_any_character() -> None:
    async with console() as browser:
        for path in ("/messages/", "/lanes/", "/queue/", "/api/v1/messages/", "/api/v1/queues/"):
            for name in ("%7B%7Bid%7D%7D", "a%2Fb%25", "%E2%80%AE%1B", "..%2F..", "%3F%23", "live"):
                answer = await browser.get(path + name)
                assert answer.status == NO_REDIS, path + name


async def test_the_openapi_document_has_every_route_of_the_api() -> None:
    async with console() as browser:
        document = await (await browser.get("/api/v1/openapi.json")).json()
        assert document["openapi"].startswith("3.1")
        assert {"/api/v1/overview", "/api/v1/lanes/{provider}", "/api/v1/audit"} <= document["paths"].keys()
        pause = document["paths"]["/api/v1/lanes/{provider}/pause"]["post"]
        assert pause["parameters"][0]["name"] == "provider"
        assert "because" in document["components"]["schemas"]["PauseArguments"]["properties"]


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.arguments is not NoArguments],
    ids=lambda route: f"{route.method} {route.path}",
)
def test_the_reference_of_a_route_names_its_own_arguments_and_none_of_a_nested_one(route: Route) -> None:
    assert [name for name, _ in fields(route.arguments)] == [
        field.encode_name for field in msgspec.structs.fields(route.arguments)
    ]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_the_arguments_of_a_route_can_be_read(route: Route) -> None:
    assert msgspec.json.decode(NEEDS.get(route.path, "{}"), type=route.arguments)
