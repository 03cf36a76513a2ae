"""`relay alerts`, and the examples for Slack, PagerDuty and e-mail, through a real worker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import Message as Mail
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from testing.commands import failure, output, run_command
from testing.receiver import Answer, Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker
from testing.site import Site

EXAMPLES = Path(__file__).parents[2] / "examples" / "alerts"


@pytest.fixture(scope="session")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, site: Site) -> Any:
    """Return the path of an example whose variables are set."""

    def path(name: str, **variables: str) -> str:
        for variable, value in {**variables, "REDIS_URL": site.server.url}.items():
            monkeypatch.setenv(variable, value)
        text = (EXAMPLES / name).read_text()
        file = site.folder / name
        file.write_text(f'{text}\nprocesses: 1\nadmin: {{listen: ""}}\n')
        return str(file)

    return path


@asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[int, list[Mail]]]:
    """Yield the port of an SMTP server on loopback, and the mails that it receives."""
    mails: list[Mail] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            mails.append(message_from_bytes(envelope.content))
            return "250 OK"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], mails


async def test_slack_gets_an_alert_as_plain_text(example: Any, receiver: Receiver) -> None:
    config = example("slack.yaml", SLACK_WEBHOOK_URL=f"{receiver.url}/services/T0/B0/secret")
    async with worker(Path(config)):
        result = await run_command("alerts", "test", "-c", config)
    assert (result.exit_code, result.stderr) == (0, "slack has delivered the test alert\n")
    (request,) = receiver.requests
    body = json.loads(request.body)
    assert body["text"] == "relay: firing test"
    (block,) = body["blocks"]
    assert block["text"]["type"] == "plain_text"
    assert block["text"]["text"].startswith("FIRING relay: this is a test: sent by ")


async def test_pagerduty_gets_an_event_with_a_key(example: Any, receiver: Receiver) -> None:
    receiver.answer = lambda request: Answer(202, b'{"status": "success"}')
    config = example("pagerduty.yaml", PAGERDUTY_URL=f"{receiver.url}/v2/enqueue", PAGERDUTY_ROUTING_KEY="R0")
    async with worker(Path(config)):
        receipt = json.loads(await output("alerts", "test", "--json", "-c", config))
    assert (receipt["outcome"], receipt["provider"]) == ("delivered", "pagerduty")
    event = json.loads(receiver.requests[0].body)
    assert (event["routing_key"], event["event_action"]) == ("R0", "trigger")
    assert event["dedup_key"].startswith("relay/test/")
    assert event["payload"] == {
        "summary": event["payload"]["summary"],
        "source": "relay",
        "severity": "critical",
        "class": "test",
        "component": "relay",
        "group": "none",
    }


async def test_an_alert_arrives_as_an_e_mail(example: Any) -> None:
    async with mail_server() as (port, mails):
        url = f"mailto://127.0.0.1:{port}?from=relay@example.com&to=ops@example.com&mode=insecure"
        config = example("email.yaml", MAIL_URL=url)
        async with worker(Path(config)):
            result = await run_command("alerts", "test", "-c", config)
    assert result.exit_code == 0, result.stderr
    (mail,) = mails
    assert "ops@example.com" in str(mail["To"])
    assert "FIRING relay" in str(mail["Subject"])


async def test_a_worker_sends_an_alert_that_status_and_alerts_show(site: Site) -> None:
    ops = {"type": "http", "url": f"{site.receiver.url}/ops"}
    path = site.configure({"hook": site.webhook(), "ops": ops}, alerts={"provider": "ops", "after": "0s"})
    config = str(path)
    assert json.loads(await output("alerts", "--json", "-c", config)) == []
    day_ago = round((time.time() - 100_000) * 1000)
    pause: dict[Any, Any] = {
        "paused": 1,
        "paused_until": 0,
        "paused_at": day_ago,
        "paused_by": "ann",
        "paused_reason": "x",
    }
    await site.redis.hset("relay:{hook}:control", mapping=pause)
    async with worker(path) as running:
        (request, *_) = await site.receiver.until(1)
        alert = json.loads(request.body)
    assert (alert["alert"], alert["provider"], alert["group"], alert["status"]) == (
        "paused",
        "hook",
        "",
        "firing",
    )
    assert alert["since"] == day_ago / 1000
    assert alert["why"].startswith("x (ann, since ")
    assert alert["value"] > 86_400
    assert "hook" in alert["text"]
    (shown,) = json.loads(await output("alerts", "--json", "-c", config))
    assert (shown["alert"], shown["provider"], shown["status"]) == ("paused", "hook", "firing")
    assert "FIRING hook" in await output("alerts", "-c", config)
    (in_status,) = json.loads(await output("status", "--json", "-c", config))["alerts"]
    assert in_status["key"] == alert["key"]
    assert any(line["event"] == "an alert fires" for line in running.lines)


async def test_a_refused_test_alert_shows_the_answer(site: Site) -> None:
    site.receiver.answer = lambda request: Answer(400, b"no such channel")
    path = site.configure(
        {"ops": {"type": "http", "url": f"{site.receiver.url}/ops"}}, alerts={"provider": "ops"}
    )
    async with worker(path):
        result = await run_command("alerts", "test", "-c", str(path))
    assert result.exit_code == 1
    assert "ops has not delivered the test alert: rejected: 400 no such channel" in result.stderr


async def test_a_test_alert_without_a_worker_has_no_outcome(site: Site) -> None:
    path = site.configure(
        {"ops": {"type": "http", "url": f"{site.receiver.url}/ops"}}, alerts={"provider": "ops"}
    )
    result = await run_command("alerts", "test", "--wait", "100ms", "-c", str(path))
    assert result.exit_code == 1
    assert "no outcome within 100ms" in result.stderr


async def test_alerts_that_are_turned_off_say_so(site: Site) -> None:
    config = str(site.configure({"hook": site.webhook()}))
    assert "set `alerts.provider`" in await failure("alerts", "test", "-c", config)
    result = await run_command("alerts", "-c", config)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "alerts are turned off" in result.stderr


async def test_a_provider_that_cannot_take_alerts_is_found_before_anything_is_sent(site: Site) -> None:
    config = str(site.configure({"push": site.pusher()}, alerts={"provider": "push"}))
    assert "push can send no alerts: " in await failure("alerts", "test", "-c", config)
    assert "push can send no alerts: " in await output("check", "-c", config)


async def test_an_unknown_provider_of_alerts_is_an_error_with_its_place(site: Site) -> None:
    config = str(site.configure({"hook": site.webhook()}, alerts={"provider": "hok"}))
    error = await failure("check", "-c", config)
    assert ': alerts.provider: no provider is named "hok"; did you mean' in error
