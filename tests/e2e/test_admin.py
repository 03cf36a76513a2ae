"""Health and metrics of a running worker."""

from __future__ import annotations

import os
import re
import signal

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
            status, text = await get(f"{url}/metrics/fleet", **bearer)
            assert status == 200
            if 'relay_messages_total{outcome="delivered",provider="hook"} 1.0' in text:
                break
        assert "relay_workers 2.0" in text
        assert 'relay_lane_state{provider="hook",state="running"} 1.0' in text


async def test_the_counters_of_a_port_survive_its_workers(site: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    site.configure({"hook": site.webhook()}, admin={"listen": url.removeprefix("http://")})

    async def delivered() -> float:
        status, text = await get(f"{url}/metrics")
        assert status == 200
        found = re.search(r'relay_attempts_total\{provider="hook",result="delivered"\} (\S+)', text)
        return float(found[1]) if found else 0.0

    async with site.worker("--processes", "2") as running:
        await running.says("ready", times=2)
        for _ in range(20):
            await site.push('{"payload": {"body": 1}}')
        while await delivered() < 20:
            pass
        pids = {int(line["worker"].split("-")[-2]) for line in running.lines if line["event"] == "ready"}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await running.says("ready", times=4)
        assert await delivered() == 20
        await site.push('{"payload": {"body": 1}}')
        while await delivered() < 21:
            pass
        _, text = await get(f"{url}/metrics")
        assert 'relay_request_seconds_count{provider="hook",status_class="2xx"} 21.0' in text
        assert "relay_lane_waiting" not in text
