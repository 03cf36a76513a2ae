"""The examples of docs/reference/providers/http.md, against a server with the checks of those APIs."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import yaml
from redis.asyncio import Redis

from testing.receiver import Answer, Received, Receiver
from testing.redis_server import RedisServer
from testing.relay_process import relay, write_config
from testing.site import Site

PAGE = (Path(__file__).parents[2] / "docs/reference/providers/http.md").read_text()
EXAMPLES: dict[str, Any] = {
    name: options
    for block in re.findall(r"```yaml\n(.*?)```", PAGE.partition("## Examples")[2], re.DOTALL)
    for name, options in yaml.safe_load(re.sub(r"\$\{([^}]*)\}", r"<<\1>>", block)).items()
}
"""The examples as YAML reads them, with brackets in each reference that have no meaning."""

ENVIRONMENT: dict[str, Any] = {
    "SLACK_BOT_TOKEN": "xoxb-1",
    "TELEGRAM_TOKEN": "123:AAE-x_y",
    "NTFY_TOKEN": "tk_1",
}


def config(folder: Path, server: RedisServer, receiver: Receiver, *names: str) -> str:
    """A file with these examples; their hosts are the receiver."""
    written = json.dumps({name: EXAMPLES[name] for name in names})
    written = re.sub(r"https://(slack\.com|api\.telegram\.org|ntfy\.sh)", receiver.url, written)
    path = write_config(folder, server.url, json.loads(written), [{"name": "notifications"}])
    path.write_text(re.sub(r"<<(.*?)>>", r"${\1}", path.read_text()))
    return str(path)


async def run(path: str, redis: Redis, *messages: tuple[str, dict[str, Any]], **env: Any) -> dict[str, str]:
    """Push and work until all is empty: the outcome of each message, by its id."""
    for number, (provider, payload) in enumerate(messages):
        envelope = {"id": str(number), "provider": provider, "reply_to": "receipts:1", "payload": payload}
        await redis.rpush("notifications", json.dumps(envelope))
    finished = await relay("run", "-c", path, "--until-empty", **ENVIRONMENT, **env)
    assert finished.code == 0, finished.err
    for secret in (*ENVIRONMENT.values(), *env.values()):
        assert secret not in finished.out + finished.err
    receipts = [json.loads(receipt) for receipt in await redis.lrange("receipts:1", 0, -1)]
    return {
        receipt["id"]: f"{receipt['outcome']} {receipt.get('reason', '')}".strip() for receipt in receipts
    }


def slack_hook(request: Received) -> Answer:
    assert request.headers["content-type"] == "application/json"
    text = json.loads(request.body)["text"]
    return Answer(400, b"invalid_payload") if "nowhere" in text else Answer(200, b"ok")


async def test_slack_incoming_webhook(site: Site) -> None:
    site.receiver.answer = slack_hook
    path = config(site.folder, site.server, site.receiver, "slack")
    outcomes = await run(
        path,
        site.redis,
        ("slack", {"title": 'A "quoted" title', "text": "<b>&"}),
        ("slack", {"title": "nowhere"}),
        ("slack", {"text": "no title"}),
        SLACK_WEBHOOK_URL=f"{site.receiver.url}/services/T0/B0/XXXX",
    )
    assert outcomes == {
        "0": "delivered",
        "1": "rejected 400 invalid_payload",
        "2": "rejected payload.title: missing",
    }
    assert [(request.path, json.loads(request.body)) for request in site.receiver.requests] == [
        ("/services/T0/B0/XXXX", {"text": '*A "quoted" title* <b>&'}),
        ("/services/T0/B0/XXXX", {"text": "*nowhere* "}),
    ]


def slack_api(request: Received) -> Answer:
    def say(**answer: Any) -> Answer:
        return Answer(200, json.dumps(answer).encode())

    if request.headers["content-type"] != "application/json; charset=utf-8":
        return say(ok=False, error="invalid_post_type")
    if request.headers.get("authorization") != f"Bearer {ENVIRONMENT['SLACK_BOT_TOKEN']}":
        return say(ok=False, error="invalid_auth")
    body = json.loads(request.body)
    assert body["unfurl_links"] in (True, False)
    if body["channel"] != "C1":
        return say(ok=False, error="channel_not_found")
    return say(ok=True, channel="C1", ts="1503435956.000247")


def telegram(throttled: set[int]) -> Any:
    def answer(request: Received) -> Answer:
        def say(status: int, **more: Any) -> Answer:
            return Answer(status, json.dumps({"ok": status == 200, "error_code": status, **more}).encode())

        if request.path != f"/bot{ENVIRONMENT['TELEGRAM_TOKEN']}/sendMessage":
            return say(404, description="Not Found")
        body = json.loads(request.body)
        if type(body["chat_id"]) is not int or type(body["disable_notification"]) is not bool:
            return say(400, description="Bad Request: chat not found")
        if body["chat_id"] == 7:
            return say(403, description="Forbidden: bot was blocked by the user")
        if body["chat_id"] not in throttled:
            throttled.add(body["chat_id"])
            return say(429, description="Too Many Requests: retry after 1", parameters={"retry_after": 1})
        return say(200, result={"message_id": 1})

    return answer


def ntfy(request: Received) -> Answer:
    if request.headers.get("authorization") != f"Bearer {ENVIRONMENT['NTFY_TOKEN']}":
        return Answer(403, b'{"code":40301,"http":403,"error":"forbidden"}')
    body = json.loads(request.body)
    if type(body["priority"]) is not int or not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", body["topic"]):
        return Answer(400, b'{"code":40024,"http":400,"error":"invalid request: ..."}')
    return Answer(200, b'{"id":"1"}')


async def test_slack_bot_telegram_with_a_fan_out_and_ntfy(site: Site) -> None:
    bot = telegram(throttled={17, 18})
    routes = {"/api/chat.postMessage": slack_api, "/": ntfy}
    site.receiver.answer = lambda request: routes.get(request.path, bot)(request)
    path = config(site.folder, site.server, site.receiver, "slack-bot", "telegram", "ntfy")
    outcomes = await run(
        path,
        site.redis,
        ("slack-bot", {"channel": "C1", "text": "Hello"}),
        ("slack-bot", {"channel": "C2", "text": "Hello", "unfurl": True}),
        ("telegram", {"targets": [17, 18, 7], "text": "Hello"}),
        ("telegram", {"chat_id": 17, "text": "quiet", "silent": True}),
        ("ntfy", {"topic": "alerts", "title": "Größe ☃", "message": "a\nb", "priority": 5}),
        ("ntfy", {"topic": "no topic", "message": "a"}),
    )
    assert outcomes == {
        "0": "delivered",
        "1": 'rejected 200 {"ok": false, "error": "channel_not_found"}',
        "2": "partial 2 delivered, 1 unregistered",
        "3": "delivered",
        "4": "delivered",
        "5": 'rejected 400 {"code":40024,"http":400,"error":"invalid request: ..."}',
    }
    sent = {request.body for request in site.receiver.requests}
    assert {"topic": "alerts", "title": "Größe ☃", "message": "a\nb", "priority": 5} in map(json.loads, sent)
    (gone,) = await site.feedback()
    assert (gone[b"provider"], gone[b"target"]) == (b"telegram", b"7")


async def test_the_payloads_of_the_page_are_delivered(site: Site) -> None:
    bot = telegram(throttled={17, 18})
    routes = {"/api/chat.postMessage": slack_api, "/": ntfy, "/services/T0/B0/XXXX": slack_hook}
    site.receiver.answer = lambda request: routes.get(request.path, bot)(request)
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    elements = [json.loads(block) for block in blocks]
    path = config(site.folder, site.server, site.receiver, *EXAMPLES)
    outcomes = await run(
        path,
        site.redis,
        *((element["provider"], element["payload"]) for element in elements),
        SLACK_WEBHOOK_URL=f"{site.receiver.url}/services/T0/B0/XXXX",
    )
    assert {element["provider"] for element in elements} == set(EXAMPLES)
    assert {outcome.partition(" ")[0] for outcome in outcomes.values()} == {"delivered"}


async def test_the_wait_in_the_body_of_telegram_is_kept(site: Site) -> None:
    site.receiver.answer = telegram(throttled=set())
    path = config(site.folder, site.server, site.receiver, "telegram")
    assert await run(path, site.redis, ("telegram", {"chat_id": 17, "text": "a"})) == {"0": "delivered"}
    first, second = site.receiver.requests
    assert 0.9 < second.at - first.at < 10


async def test_check_names_the_mistakes_of_a_template(site: Site) -> None:
    provider = {"type": "http", "url": "https://api.example.com/s3cret", "body": {"text": "${paylaod.text}"}}
    path = site.configure({"api": provider})
    checked = await relay("check", "-c", str(path))
    assert checked.code == 2
    assert (
        "providers.api.body.text: ${paylaod.text}: there is no 'paylaod'; did you mean `payload`?"
        in checked.err
    )
    assert re.search(r"relay\.yaml:\d+:13: ", checked.err)


async def test_an_api_that_needs_oauth2_gets_a_token(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    oauth2 = {"token_url": f"{receiver.url}/token", "client_id": "relay", "client_secret": "${CLIENT_SECRET}"}
    example = {"type": "http", "url": f"{receiver.url}/messages", "oauth2": oauth2}
    providers = {"api": example, "hook": {**example, "type": "webhook"}}
    path = write_config(tmp_path, redis_server.url, providers, [{"name": "notifications", "providers": "*"}])

    def answer(request: Received) -> Answer:
        if request.path == "/token":
            pair = request.headers.get("authorization", "").removeprefix("Basic ")
            right = base64.b64decode(pair) == b"relay:api-word"
            token = {"access_token": "token-of-a-day", "token_type": "Bearer", "expires_in": 86400}
            return Answer(200, json.dumps(token).encode()) if right else Answer(401, b"no: wrong-word")
        return Answer(200 if request.headers["authorization"] == "Bearer token-of-a-day" else 401)

    receiver.answer = answer
    refused = await relay("check", "--connect", "-c", str(path), CLIENT_SECRET="wrong-word")
    assert refused.code == 1
    assert "oauth2: the token endpoint answered 401" in refused.out + refused.err
    assert "wrong-word" not in refused.out + refused.err
    messages = [("api", {"a": 1}), ("hook", {"body": 1}), ("api", {"a": 2})]
    ended = await run(str(path), redis, *messages, CLIENT_SECRET="api-word")
    assert ended == {"0": "delivered", "1": "delivered", "2": "delivered"}
    assert [request.path for request in receiver.requests].count("/messages") == 3
