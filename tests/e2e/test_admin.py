"""Health and metrics of a running worker."""

from __future__ import annotations

from pathlib import Path

from aiohttp import ClientSession
from redis.asyncio import Redis

from testing.ports import free_port
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from tests.e2e.conftest import webhook


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_health_and_metrics_are_served_with_the_token(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    admin = {"listen": url.removeprefix("http://"), "token": "open-sesame"}
    config = write_config(tmp_path, redis_server.url, {"hook": webhook(receiver)}, admin=admin)
    bearer = {"Authorization": "Bearer open-sesame"}
    async with worker(config, "--processes", "2") as running:
        await running.says("ready", times=2)
        assert (await get(f"{url}/metrics"))[0] == 401
        assert (await get(f"{url}/healthz", Authorization="Bearer wrong"))[0] == 401
        assert (await get(f"{url}/healthz", **bearer))[0] == 200
        await redis.rpush("notifications", '{"payload": {"body": 1}}')
        await receiver.until(1)
        while True:
            status, text = await get(f"{url}/metrics", **bearer)
            assert status == 200
            if 'relay_messages_total{outcome="delivered",provider="hook"} 1.0' in text:
                break
        assert "relay_workers 2.0" in text
        assert 'relay_lane_state{provider="hook",state="running"} 1.0' in text
