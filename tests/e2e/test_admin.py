"""Health and metrics of a running worker."""

from __future__ import annotations

from aiohttp import ClientSession

from testing.ports import free_port
from testing.site import Site


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_health_and_metrics_are_served_with_the_token(site: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    admin = {"listen": url.removeprefix("http://"), "token": "open-sesame"}
    site.configure({"hook": site.webhook()}, admin=admin)
    bearer = {"Authorization": "Bearer open-sesame"}
    async with site.worker("--processes", "2") as running:
        await running.says("ready", times=2)
        assert (await get(f"{url}/metrics"))[0] == 401
        assert (await get(f"{url}/healthz", Authorization="Bearer wrong"))[0] == 401
        assert (await get(f"{url}/healthz", **bearer))[0] == 200
        await site.push('{"payload": {"body": 1}}')
        await site.receiver.until(1)
        while True:
            status, text = await get(f"{url}/metrics", **bearer)
            assert status == 200
            if 'relay_messages_total{outcome="delivered",provider="hook"} 1.0' in text:
                break
        assert "relay_workers 2.0" in text
        assert 'relay_lane_state{provider="hook",state="running"} 1.0' in text
