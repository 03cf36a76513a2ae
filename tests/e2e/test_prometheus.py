"""The files in deploy/prometheus and deploy/grafana, against a Prometheus that scrapes a running fleet."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession

from testing.ports import free_port
from testing.receiver import Answer
from testing.site import Site

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="prometheus is not installed"
)

RULES = Path("deploy/prometheus")
DASHBOARD = Path("deploy/grafana/relay.json")


async def promtool(*words: str, stdin: bytes | None = None, cwd: Path | None = None) -> str:
    """Run promtool, which must succeed. Returns its output."""
    process = await asyncio.create_subprocess_exec(
        "promtool",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
    )
    out, _ = await process.communicate(stdin)
    assert process.returncode == 0, out.decode()
    return out.decode()


@asynccontextmanager
async def a_prometheus(folder: Path, target: str) -> AsyncIterator[str]:
    """Run a Prometheus that scrapes both pages of a port every second. Yields its URL."""
    jobs = [
        {"job_name": name, "metrics_path": path, "static_configs": [{"targets": [target]}]}
        for name, path in (("relay", "/metrics"), ("relay-fleet", "/metrics/fleet"))
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str((RULES / "alerts.yml").resolve())],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    listen = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={listen}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://{listen}"
    finally:
        process.terminate()
        await process.wait()


def expressions() -> list[str]:
    """The queries of the dashboard, over all providers."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [text.replace("$provider", ".+").replace("$__rate_interval", "5s") for text in found]


async def result(session: ClientSession, url: str, query: str) -> list[Any]:
    async with session.get(f"{url}/api/v1/query", params={"query": query}) as answer:
        document = await answer.json()
    assert document["status"] == "success", (query, document)
    found: list[Any] = document["data"]["result"]
    return found


async def next_scrape(session: ClientSession, url: str, after: float) -> float:
    """Wait for a scrape that is newer than this Unix time. Returns its time."""
    while True:
        with suppress(ClientError):  # not open yet
            found = await result(session, url, 'max(timestamp(up{job="relay-fleet"}))')
            if found and (at := float(found[0]["value"][1])) > after:
                return at


async def test_each_alert_fires_and_stops() -> None:
    assert "SUCCESS" in await promtool("check", "rules", "alerts.yml", cwd=RULES)
    assert "SUCCESS" in await promtool("test", "rules", "alerts_test.yml", cwd=RULES)


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    rules = yaml.safe_load((RULES / "alerts.yml").read_text())
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    cases = [
        case
        for test in yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


async def test_each_query_of_the_dashboard_has_data_from_a_running_fleet(site: Site, tmp_path: Path) -> None:
    target = f"127.0.0.1:{free_port()}"
    site.configure(
        {
            "hook": site.webhook(rate="100/s"),
            "groups": site.webhook(groups={"by": "message", "rate": "1/s"}),
        },
        [{"name": "notifications", "providers": "*"}],
        admin={"listen": target},
        processes=2,
    )
    site.receiver.answer = lambda request: Answer(json.loads(request.body).get("status", 200))
    (tmp_path / "prometheus").mkdir()
    async with (
        site.worker(ready="supervising"),
        a_prometheus(tmp_path / "prometheus", target) as url,
        ClientSession() as session,
        asyncio.timeout(150),
    ):
        left, scraped = expressions(), 0.0
        assert len(left) > 20
        while left:
            await site.push({"provider": "hook", "payload": {"body": {}}})
            await site.push({"provider": "hook", "payload": {"body": {"status": 413}}})
            await site.push(*[{"provider": "groups", "group": "a", "payload": {"body": {}}}] * 2)
            scraped = await next_scrape(session, url, scraped)
            left = [query for query in left if not await result(session, url, query)]
        for path in ("metrics", "metrics/fleet"):
            async with session.get(f"http://{target}/{path}") as answer:
                page = await answer.read()
            said = (await promtool("check", "metrics", stdin=page)).splitlines()
            # The client library names its own process metrics.
            assert not [line for line in said if re.match(r"relay_", line)], said
