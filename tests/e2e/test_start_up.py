"""The start of a command: which modules it imports, and which adapters it needs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from testing.ports import free_port
from testing.relay_process import environment, relay
from testing.site import Site

LISTING = """
import atexit, sys
atexit.register(lambda: print("modules:", *sys.modules, file=sys.stderr))
from relay.__main__ import main
main()
"""


async def imports_of(*words: str) -> set[str]:
    """The modules that a command imports."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LISTING, *words),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return set(err.decode().partition("modules: ")[2].split())


def loaded(modules: set[str], *packages: str) -> set[str]:
    """Those of the modules that belong to the packages."""
    return {
        module
        for module in modules
        for package in packages
        if module == package or module.startswith(f"{package}.")
    }


ENGINE = (
    *(
        "relay.engine.worker",
        "relay.engine.dispatcher",
        "relay.engine.intake",
        "relay.sandbox",
        "relay.admin",
        "relay.engine.supervisor",
    ),
    *("aiohttp", "pycurl", "prometheus_client", "structlog"),
)
CRYPTO = ("cryptography.hazmat", "google.auth", "jwt", "http_ece", "apprise", "requests", "tenacity")


async def test_the_version_is_printed_without_any_library() -> None:
    modules = await imports_of("--version")
    assert not loaded(modules, *ENGINE, *CRYPTO, "typer", "rich", "pydantic", "redis", "yaml", "asyncio")


async def test_the_list_of_commands_imports_none_of_them() -> None:
    modules = await imports_of("--help")
    assert not loaded(modules, *ENGINE, *CRYPTO, "pydantic", "redis", "yaml", "msgspec")
    assert loaded(modules, "relay.cli") == {
        "relay.cli",
        *(f"relay.cli.{name}" for name in ("app", "common", "terminal")),
    }


async def test_a_pause_imports_neither_engine_nor_tables_nor_unused_adapters(site: Site) -> None:
    config = site.configure({"hook": {"type": "webhook"}})
    modules = await imports_of("pause", "hook", "-c", str(config))
    assert await site.redis.hget("relay:{hook}:control", "paused")
    assert not loaded(modules, *ENGINE, *CRYPTO, "rich")
    adapters = {module for module in loaded(modules, "providers") if "._" not in module}
    assert adapters == {"providers", "providers.webhook"}


BROKEN = "import relay_missing_dependency\n"


def broken_adapter(folder: Path) -> str:
    """An installed package whose adapter `broken` cannot be imported; the value for PYTHONPATH."""
    site = folder / "site"
    info = site / "relay_broken-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: relay-broken\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[relay.providers]\nbroken = relay_broken:Broken\n")
    (site / "relay_broken.py").write_text(BROKEN)
    return str(site)


async def test_an_unused_adapter_that_cannot_be_imported_stops_nothing(site: Site) -> None:
    path = broken_adapter(site.folder)
    url = f"http://127.0.0.1:{free_port()}/"
    site.configure({"hook": {"type": "webhook", "url": url}})
    checked, listed, schema = await asyncio.gather(
        site.relay("check", PYTHONPATH=path),
        relay("providers", "--json", PYTHONPATH=path),
        relay("schema", "config", PYTHONPATH=path),
    )
    assert (checked.code, listed.code, schema.code) == (0, 0, 0), f"{checked} {listed} {schema}"
    assert listed.json["broken"]["package"] == "relay-broken 1.5"
    assert "relay_missing_dependency" in listed.json["broken"]["error"]
    assert "webhook" in listed.json
    assert "relay-broken 1.5" in schema.err
    assert json.loads(schema.out)["properties"]["providers"]
    table = await relay("providers", "broken", PYTHONPATH=path)
    assert (table.code, "relay_missing_dependency" in table.out) == (0, True)
    async with site.worker(PYTHONPATH=path):
        pass


async def test_a_named_adapter_that_cannot_be_imported_is_an_error_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(
        "queues: [{name: q, provider: a}]\nproviders:\n  a:\n    type: broken\n  b:\n    type: brokn\n"
    )
    checked = await relay("check", "-c", str(config), PYTHONPATH=broken_adapter(tmp_path))
    assert checked.code == 2
    broken, unknown = checked.err.splitlines()
    assert broken.startswith(f"{config}:4:11: providers.a.type: the adapter 'broken' (relay-broken 1.5")
    assert "No module named 'relay_missing_dependency'" in broken
    assert unknown.startswith(f"{config}:6:11: providers.b.type: there is no adapter")
    assert "did you mean `broken`? available: apns, apprise, broken," in unknown
