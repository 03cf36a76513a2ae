"""The demo and the sandbox, as a newcomer starts them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from aiohttp import ClientSession

from testing.relay_process import relay
from testing.sandbox_process import command, started
from testing.site import Site


async def test_the_demo_shows_a_backlog_leave_at_the_rate_and_ends_by_itself(tmp_path: Path) -> None:
    finished = await relay("demo", "--seconds", "4", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert (finished.code, finished.err) == (0, "")
    assert "waiting" in finished.out
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:] for line in finished.out.splitlines() if "│" in line
    }
    for provider, rate in (("pusher", 500), ("webhook", 50)):
        pushed, delivered, waiting, _, _, busiest = (
            int("".join(character for character in cell if character.isdigit()))
            for cell in rows[provider][:6]
        )
        assert pushed >= rate * 10
        assert 0 < delivered < pushed
        assert pushed - delivered == waiting
        # A whole second may begin with the burst, and on a busy machine requests bunch up.
        assert busiest <= rate * 3
    assert list(tmp_path.iterdir()) == []


async def test_the_sandbox_s_own_block_of_yaml_works_as_it_is(site: Site) -> None:
    async with command("--listen", "127.0.0.1:0") as process:
        url, found = await started(process)
        providers = {name: found[name] for name in ("pusher", "webhook")}
        site.configure(providers, [{"name": "mixed"}])
        assert (await site.relay("check", "--connect")).code == 0
        assert process.stdout is not None
        async with site.worker():
            await site.redis.rpush(
                "mixed",
                '{"provider": "pusher", "payload": {"channel": "site-1", "event": "hit", "data": {"n": 3}}}',
                '{"provider": "webhook", "id": "order-17", "payload": {"body": {"type": "order.paid"}}}',
            )
            async with asyncio.timeout(120):
                said = sorted([(await process.stdout.readline()).decode() for _ in range(2)])
        assert said[0].startswith('200 pusher site-1 hit {"n": 3}')
        assert said[1].startswith("200 webhook /webhook/demo POST")
        async with ClientSession() as session:
            async with session.get(f"{url}/_sandbox/received") as answer:
                assert {entry["message_id"] for entry in await answer.json()} == {"", "order-17"}
            async with session.get(f"{url}/") as answer:
                assert "<title>relay sandbox</title>" in await answer.text()
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert process.returncode == 0
        assert b"pusher: 1 accepted, 0 refused" in err


async def test_a_wrong_option_of_the_sandbox_is_explained(tmp_path: Path) -> None:
    for words in (
        ["--fail", "often"],
        ["--rate-limit", "fast"],
        ["--listen", "nowhere"],
        ["--latency", "9-1"],
    ):
        failed = await relay("sandbox", *words)
        assert failed.code == 2
        assert words[0] in failed.err
        assert "Traceback" not in failed.err
