"""`relay run` against `relay sandbox`, both on one machine."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from testing.ports import free_port
from testing.sandbox_process import command, started
from testing.site import Site

EACH = 250
"""Messages for each provider."""


@dataclass(frozen=True)
class Running:
    """A sandbox: its URL, the providers that it suggests to an operator, and its requests."""

    url: str
    providers: dict[str, dict[str, Any]]
    session: ClientSession
    process: asyncio.subprocess.Process

    async def stop(self) -> None:
        self.process.terminate()
        await self.process.communicate()

    async def get(self, path: str) -> Any:
        async with self.session.get(f"{self.url}/_sandbox/{path}") as answer:
            assert answer.status == 200
            return await answer.json()


@asynccontextmanager
async def sandbox(folder: Path, *words: str) -> AsyncIterator[Running]:
    listen = () if "--listen" in words else ("--listen", "127.0.0.1:0")
    async with (
        command(*words, *listen, "--dir", str(folder), "--quiet") as process,
        ClientSession() as session,
    ):
        url, providers = await started(process)
        yield Running(url, providers, session, process)


async def test_the_configuration_that_the_sandbox_prints_works_with_it(site: Site) -> None:
    async with sandbox(site.folder / "keys") as running:
        site.configure(running.providers)
        checked = await site.relay("check", "--connect")
    assert checked.code == 0, checked.err
    assert set(running.providers) == {"pusher", "webhook", "fcm", "apns", "webpush"}


async def test_every_message_ends_among_failures_and_targets_that_are_gone(
    site: Site,
) -> None:
    words = ("--fail", "5%", "--unregistered", "1%", "--latency", "0ms-5ms", "--seed", "7")
    async with sandbox(site.folder / "keys", *words) as running:
        subscriptions = [await running.get("subscriptions") for _ in range(EACH)]
        payloads = {
            "fcm": [{"token": f"device-{n}", "notification": {"title": "Hi"}} for n in range(EACH)],
            "apns": [{"device_token": f"{n:064x}", "aps": {"alert": "Hi"}} for n in range(EACH)],
            "webpush": [{"subscription": each, "data": {"n": n}} for n, each in enumerate(subscriptions)],
        }
        providers = {
            name: {**running.providers[name], "retry": {"attempts": 10, "base": "10ms"}} for name in payloads
        }
        # Over HTTP/2 and TLS, as Google has it.
        url = running.providers["apns"]["url"]
        providers["fcm"] |= {
            "url": url,
            "token_url": f"{url}/token",
            "ca_file": running.providers["apns"]["ca_file"],
        }
        site.configure(providers, [{"name": "notifications"}])
        elements = [
            {"id": f"{name}-{n}", "provider": name, "reply_to": "receipts:1", "ttl": "1h", "payload": payload}
            for name, several in payloads.items()
            for n, payload in enumerate(several)
        ]
        await site.push(*elements)
        ran = await site.relay("run", "--until-empty")
        assert ran.code == 0, ran.err
        stats = await running.get("stats")
    receipts = await site.receipts()
    assert len(receipts) == len({each["id"] for each in receipts}) == 3 * EACH
    ended = Counter((each["provider"], each["outcome"]) for each in receipts)
    assert {outcome for _, outcome in ended} == {"delivered", "unregistered"}
    feedback = Counter(entry[b"provider"].decode() for entry in await site.feedback())
    for name, gone in (("fcm", "404"), ("apns", "410"), ("webpush", "410")):
        statuses = stats[name]["statuses"]
        assert stats[name]["accepted"] == ended[name, "delivered"]
        assert statuses.get(gone, 0) == ended[name, "unregistered"] == feedback[name]
        assert ended[name, "delivered"] + ended[name, "unregistered"] == EACH
        # Only the ordered faults: no request of ours was wrong.
        assert set(statuses) <= {"200", "201", "500", gone}
        assert statuses["500"] > 0
    assert feedback.total() > 0


async def test_a_restarted_sandbox_knows_its_earlier_tokens_and_browsers(site: Site) -> None:
    words = ("--listen", f"127.0.0.1:{free_port()}", "--apns-port", str(free_port()))

    async def push(running: Running, subscription: Any) -> None:
        """One message by each provider, to its end."""
        for name, payload in {
            "fcm": {"token": "device-1", "data": {"k": "v"}},
            "apns": {"device_token": "0a" * 32, "aps": {"alert": "Hi"}},
            "webpush": {"subscription": subscription, "data": "Hi"},
        }.items():
            element = {"provider": name, "reply_to": "receipts:1", "payload": payload}
            await site.push(element)
        for _ in range(3):
            receipt = await site.receipt("receipts:1")
            assert receipt["outcome"] == "delivered", receipt

    async with sandbox(site.folder / "keys", *words) as first:
        subscription = await first.get("subscriptions")
        providers = {
            name: {**first.providers[name], "retry": {"base": "10ms"}} for name in ("fcm", "apns", "webpush")
        }
        site.configure(providers, [{"name": "notifications"}])
        async with site.worker():
            await push(first, subscription)
            assert (await first.get("stats"))["oauth"]["requests"] == 1
            await first.stop()
            async with sandbox(site.folder / "keys", *words) as second:
                await push(second, subscription)
                stats = await second.get("stats")
    assert {name: counts["accepted"] for name, counts in stats.items()} == dict.fromkeys(providers, 1)


async def test_a_broadcast_reaches_its_channel_until_an_operator_deletes_it(site: Site) -> None:
    async def push(channel: str) -> str:
        """The outcome of one broadcast."""
        aps = {"timestamp": 1_800_001_000, "event": "update", "content-state": {"home": 1}}
        element = {"reply_to": "receipts:1", "payload": {"channel_id": channel, "aps": aps}}
        await site.push(element)
        return str((await site.receipt("receipts:1"))["outcome"])

    async with sandbox(site.folder / "keys") as running:
        providers = {"apns": running.providers["apns"]}
        queues = [{"name": "notifications", "provider": "apns"}]
        site.configure(providers, queues)
        created = await site.relay("apns", "channels", "create", "apns")
        assert created.code == 0, created.err
        channel = created.out.strip()
        async with site.worker():
            assert await push(channel) == "delivered"
            deleted = await site.relay("apns", "channels", "delete", "apns", channel)
            assert deleted.code == 0, deleted.err
            assert await push(channel) == "unregistered"
    (feedback,) = await site.feedback()
    assert feedback[b"target"].decode() == channel


async def test_a_stale_token_and_a_wrong_topic_do_not_affect_the_other_messages(site: Site) -> None:
    async with sandbox(site.folder / "keys") as running:
        # FCM's answer without details, which names neither the token nor its own error code.
        order = {"provider": "fcm", "status": 404, "reason": "NOT_FOUND", "times": 1}
        async with running.session.post(f"{running.url}/_sandbox/faults", json=order) as answer:
            assert answer.status == 200
        payloads = [
            *(("fcm", {"token": f"device-{n}", "notification": {"title": "Hi"}}) for n in range(20)),
            *(("apns", {"device_token": f"{n:064x}", "aps": {"alert": "Hi"}}) for n in range(20)),
            *(
                ("apns", {"device_token": "0a" * 32, "aps": {}, "headers": {"apns-push-type": kind}})
                for kind in ("widgets", "controls", "voip")
            ),
            ("apns", {"device_token": "0b" * 32, "aps": {}, "headers": {"apns-topic": "com.example.other"}}),
        ]
        providers = {name: running.providers[name] for name in ("fcm", "apns")}
        site.configure(providers, [{"name": "notifications"}])
        elements = [
            {"provider": name, "reply_to": "receipts:1", "payload": payload} for name, payload in payloads
        ]
        await site.push(*elements)
        ran = await site.relay("run", "--until-empty")
        assert ran.code == 0, ran.err
    receipts = await site.receipts()
    ended = Counter((each["provider"], each["outcome"], each["reason"]) for each in receipts)
    assert ended == {
        ("fcm", "delivered", ""): 19,
        ("fcm", "unregistered", "404 NOT_FOUND: Requested entity was not found."): 1,
        ("apns", "delivered", ""): 23,
        ("apns", "rejected", "400 TopicDisallowed"): 1,
    }


async def test_webhooks_of_each_signature_format_are_verified_and_no_secret_is_received(site: Site) -> None:
    async with Sandbox(SandboxOptions()) as receiver:
        secret = receiver.options.webhook_secret
        hook = {"type": "webhook", "url": f"{receiver.url}/webhook/x", "retry": {"attempts": 1}}
        formats: dict[str, dict[str, Any]] = {
            "standard": {},
            "hub": {"signature": {"format": "hub"}},
            "timestamped": {"signature": {"format": "timestamped"}},
            "renamed": {"signature": {"format": "hub", "header": "X-Shop-Signature"}},
        }
        providers = {name: {**hook, **options} for name, options in formats.items()}
        queue = {"name": "notifications", "providers": "*"}
        site.configure(providers, [queue])
        for name in providers:
            for kind, secrets in (("right", [secret]), ("wrong", ["whsec_" + "A" * 32])):
                payload = {"body": {"a": 1}, "secrets": secrets}
                await site.push({"id": kind, "provider": name, "payload": payload})
        async with site.worker("--until-empty") as running:
            assert await running.ended() == 0
        received = receiver.request_log.latest()
        ends = Counter((entry["message_id"], entry["status"]) for entry in received)
        assert (ends["right", 200], ends["wrong", 200]) == (4, 0), received
        assert ends["wrong", 401] >= 4, received
        assert secret.removeprefix("whsec_") not in json.dumps(received)
