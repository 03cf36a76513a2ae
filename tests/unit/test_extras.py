"""The plain installation and its extras: the libraries that it needs, and its errors without the others."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from relay.errors import ConfigError, UsageError
from relay.extras import install
from relay.provider import AdapterOptions, discover
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.settings.load import loads

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

NEEDS_AN_EXTRA = {
    "relay/cli/watch.py": "watch",
    "relay/cli/watch_dialogs.py": "watch",
    "relay/engine/tracing.py": "otel",
    "relay/engine/traced_calls.py": "otel",
    "relay/sandbox/http2.py": "sandbox",
}
"""Modules that are imported only if their extra is installed."""


def closure(requirements: list[str]) -> set[str]:
    """The distributions that these requirements install."""
    found: dict[str, frozenset[str]] = {}

    def add(text: str, extras: frozenset[str]) -> None:
        one = Requirement(text)
        if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            return
        name, wanted = canonicalize_name(one.name), frozenset(one.extras)
        if name in found and wanted <= found[name]:
            return
        found[name] = found.get(name, frozenset()) | wanted
        for inner in requires(name) or ():
            add(inner, found[name])

    for text in requirements:
        add(text, frozenset())
    return set(found)


@cache
def plain() -> set[str]:
    return closure(PROJECT["dependencies"])


def imported_at_once(path: Path) -> Iterator[str]:
    """The modules that a file imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module


def test_a_module_needs_only_libraries_of_the_plain_installation_or_of_its_extra() -> None:
    distributions = packages_distributions()
    for folder in ("relay", "providers"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            allowed = plain()
            if name in NEEDS_AN_EXTRA:
                allowed = allowed | closure(EXTRAS[NEEDS_AN_EXTRA[name]])
            for module in imported_at_once(path):
                root = module.partition(".")[0]
                if root in sys.stdlib_module_names or root in {"relay", "providers"}:
                    continue
                of = {canonicalize_name(found) for found in distributions[root]}
                assert of & allowed, f"{name} imports {module}, which belongs to {of}"


def test_an_extra_is_not_in_the_plain_installation() -> None:
    for extra in ("apprise", "embedded", "encryption", "fcm", "otel", "sandbox", "watch"):
        names = {canonicalize_name(Requirement(text).name) for text in EXTRAS[extra]}
        assert not names & plain(), extra


def test_every_command_that_installs_an_extra_names_one_that_exists() -> None:
    named = set()
    for pattern in ("relay/**/*.py", "providers/**/*.py", "*.md", "docs/**/*.md", "deploy/**/*", "*.yaml"):
        for path in ROOT.glob(pattern):
            if path.is_file() and path.suffix != ".png":
                text = path.read_text()
                named |= set(re.findall(r"relay-push\[([a-z,]+)\]", text))
                named |= set(re.findall(r"\binstall\(['\"]([a-z]+)['\"]\)", text))
    assert {"apprise", "embedded", "fcm", "otel", "sandbox", "watch"} <= named
    assert {extra for names in named for extra in names.split(",")} <= set(EXTRAS)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the extras, as if they were not installed."""
    for module in ("google.auth", "h2", "opentelemetry.sdk", "apprise", "nacl.secret"):
        monkeypatch.setitem(sys.modules, module, None)


CONFIGURATION = """\
queues: [{name: a}]
providers:
  p:
    %s
telemetry: {otlp: %s}
"""
NEEDS = {
    "type: fcm\n    project_id: p\n    credentials: adc": (6, 18, "credentials", "fcm"),
    "type: apprise\n    url: json://a": (5, 10, "url", "apprise"),
    "type: pusher\n    app_id: '1'\n    key: k\n    secret: s\n    encryption_master_key: "
    + "A" * 43
    + "=": (
        8,
        28,
        "encryption_master_key",
        "encryption",
    ),
}


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize(("options", "error"), NEEDS.items(), ids=[error[3] for error in NEEDS.values()])
def test_an_option_that_needs_an_extra_is_refused_at_its_line_with_the_command(
    options: str, error: tuple[int, int, str, str]
) -> None:
    line, column, key, extra = error
    with pytest.raises(ConfigError) as raised:
        loads(CONFIGURATION % (options, "false"), "relay.yaml", AdapterOptions(discover()), {})
    (problem,) = raised.value.problems
    assert problem.startswith(f"relay.yaml:{line}:{column}: providers.p.{key}: ")
    assert problem.endswith(install(extra))


@pytest.mark.usefixtures("plainly")
def test_traces_without_their_extra_are_refused_at_their_line() -> None:
    with pytest.raises(ConfigError) as raised:
        loads(CONFIGURATION % ("type: webhook", "true"), "relay.yaml", AdapterOptions(discover()), {})
    assert raised.value.problems == (
        f"relay.yaml:5:19: telemetry.otlp: needs OpenTelemetry: {install('otel')}",
    )


@pytest.mark.usefixtures("plainly")
async def test_a_sandbox_without_its_extra_serves_all_but_apns() -> None:
    async with Sandbox(SandboxOptions(port=0)) as sandbox:
        providers = sandbox.providers_yaml()
        assert "  fcm:\n" in providers
        assert "apns" not in providers
    with pytest.raises(UsageError, match=f"--apns-port: .*{re.escape(install('sandbox'))}"):
        Sandbox(SandboxOptions(apns_port=0))
