"""The blocks of YAML on the pages are valid configuration, and each command exists with its options."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from relay.cli.app import app
from relay.cli.key_files import KEY_FILES
from relay.engine.router import Router
from relay.message import parse_envelope
from relay.provider import AdapterOptions, discover
from relay.provider.configured import configured, refused
from relay.settings.load import load
from relay.settings.models import Settings
from relay.store.items import Malformed
from testing.pages.blocks import ROOT, SHELLS, commands, pages
from testing.pages.blocks import blocks as blocks_of
from testing.pages.not_run import NOT_RUN

ENVIRONMENT = {
    "OPS_URL": "json://ops.example",
    "PUSHER_SECRET": "secret",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.example/services/T0/B0/x",
    "RELAY_ADMIN_TOKEN": "a-long-token-of-an-operator-0123",
    "RELAY_VIEWER_TOKEN": "a-long-token-of-a-viewer-01234567",
    "WEBHOOK_SECRET": "whsec_cmVsYXktc2FuZGJveC13ZWJob29rLXNlY3JldC1rZXk=",
}
"""Values of variables that must have a form. Others are `value`."""

Where = tuple[str, str]


def blocks(*languages: str) -> list[Where]:
    """Place and text of each block in one of these languages."""
    every = (block for page in pages() for block in blocks_of(page))
    return [(block.where, block.text) for block in every if block.language in languages]


def whole_file(part: str) -> str:
    """A configuration file with this part of one."""
    keys = yaml.safe_load(part)
    if not keys.keys() <= Settings.model_fields.keys():  # providers alone, by name
        part = "providers:\n" + "".join(f"  {line}\n" for line in part.splitlines())
        keys = yaml.safe_load(part)
    queues = keys.get("queues", [])
    named = {keys.get("alerts", {}).get("provider"), *(queue.get("provider") for queue in queues)}
    named |= {name for queue in queues for name in queue.get("providers", [])}
    if "queues" not in keys:
        part += "queues: [{name: notifications}]\n"
    if "providers" not in keys:
        part += "providers:\n  other: {type: webhook}\n"
        part += "".join(f"  {name}: {{type: webhook}}\n" for name in sorted(named - {None}))
    return part


def key_files(text: str) -> Iterator[tuple[str, bytes]]:
    """The files that the text names, with content of the right form."""
    for options in yaml.safe_load(text)["providers"].values():
        for name, value in options.items():
            if name.endswith("_file"):
                yield value, KEY_FILES[options["type"]].make()


CONFIGURATIONS = [block for block in blocks("yaml") if "type: chat" not in block[1]]
"""All but the one with the adapter of a page, which the test of that page reads."""


@pytest.mark.parametrize(("where", "text"), CONFIGURATIONS, ids=lambda value: value.partition("\n")[0])
def test_a_block_of_yaml_is_valid_configuration(
    where: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in re.findall(r"\$\{([A-Z_]+)[:}]", text):
        monkeypatch.setenv(name, ENVIRONMENT.get(name, "value"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "admin-token").write_text(ENVIRONMENT["RELAY_ADMIN_TOKEN"])
    text = whole_file(text)
    for name, content in key_files(text):
        (tmp_path / name).write_bytes(content)
    file = tmp_path / "relay.yaml"
    file.write_text(text)
    load(file, AdapterOptions(discover()))


MESSAGES = [
    (where, text)
    for where, text in blocks("json")
    if '"payload"' in text and "…" not in text and not where.startswith("docs/reference/providers/")
]
"""The messages on the pages; those of the providers' own pages are sent to the emulators in other tests."""

PROVIDERS = """
queues: [{name: notifications, provider: customers, providers: "*"}]
providers:
  apns: {type: apns, key_file: AuthKey.p8, key_id: ABC123DEFG, team_id: DEF123GHIJ, topic: com.example.app}
  customers: {type: webhook, groups: {by: message}}
  fcm: {type: fcm, service_account_file: firebase.json}
  pusher: {type: pusher, app_id: "1", key: abc, secret: secret, cluster: eu}
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("messages")
    for name, content in key_files(PROVIDERS):
        (folder / name).write_bytes(content)
    (folder / "relay.yaml").write_text(PROVIDERS)
    return load(folder / "relay.yaml", AdapterOptions(discover()))


@pytest.mark.parametrize(("where", "text"), MESSAGES, ids=lambda value: value.partition("\n")[0])
def test_a_message_of_a_page_is_accepted(where: str, text: str, settings: Settings) -> None:
    adapters = configured(settings)
    name, item = Router(settings.queues[0], settings, adapters).route(text.encode())
    assert not isinstance(item, Malformed), item.reason
    assert name is not None
    assert refused(adapters[name], item) == ""


def calls(text: str) -> Iterator[list[str]]:
    """The calls of relay in a shell's text. A call ends at a pipe, a redirection or an `&`."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"\$\([^)]*\)", "value", line), comments=True)
        while "relay" in words:
            words = words[words.index("relay") + 1 :]
            end = next(
                (place for place, word in enumerate(words) if word in {"|", "&", "&&", ">", "<"}), None
            )
            yield words[:end]
            words = words[end:] if end else []


def parse(words: list[str]) -> None:
    """Read the words as the command line does, without running the command. Raises UsageError."""
    command, context, name = typer.main.get_command(app), None, "relay"
    while isinstance(command, TyperGroup) and words:
        context = typer.Context(command, parent=context, info_name=name)
        found, inner, words = command.resolve_command(context, words)
        assert inner is not None
        command, name = inner, str(found)
    if not isinstance(command, TyperGroup):
        command.make_context(name, words, parent=context)


CALLS = [
    (where, " ".join(words), words)
    for where, text in blocks("sh", "console")
    if not where.startswith("docs/reference/commands.md")
    for words in calls(text)
    if words and re.fullmatch(r"[a-z]+", words[0])
]


@pytest.mark.parametrize(
    ("where", "shown", "words"), CALLS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_command_of_a_page_can_be_called_like_this(where: str, shown: str, words: list[str]) -> None:
    parse(words)


PUSHES = [
    (where, element)
    for where, text in blocks("sh")
    for element in re.findall(r"(?:relay push|RPUSH) \w+ '(\{[^']*\})'", text)
]


@pytest.mark.parametrize(("where", "element"), PUSHES, ids=lambda value: value.partition("{")[0])
def test_a_message_in_a_command_is_an_envelope(where: str, element: str) -> None:
    assert parse_envelope(element.encode(), "notifications", 0)


def test_a_command_in_a_sentence_exists_with_its_options() -> None:
    known = names(typer.main.get_command(app), ())
    unknown = []
    for page in pages():
        for code in re.findall(r"`relay ([a-z][^`;]*)`", (ROOT / page).read_text().replace("\n", " ")):
            words = re.split(r"\s+|=", code.replace("|", " "))
            path: tuple[str, ...] = ()
            for word in words:
                path = (*path, word) if (*path, word) in known else path
            options = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
            if not path or not options <= known[path] | known[()]:
                unknown.append(f"{page}: relay {code}")
    assert unknown == []


def names(command: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], set[str]]:
    """The options of each command, by its path."""
    context = typer.Context(command)
    found = {path: {option for parameter in command.get_params(context) for option in parameter.opts}}
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            _, inner, _ = command.resolve_command(context, [name])
            found |= names(inner, (*path, name))
    return found


def test_an_extra_of_a_page_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra
        for page in pages()
        for extras_of_page in re.findall(r"(?:relay-push|'\.)\[([a-z,]+)\]", (ROOT / page).read_text())
        for extra in extras_of_page.split(",")
    }
    assert {"embedded", "watch"} <= named <= extras.keys()


def test_a_target_of_make_on_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for _, text in blocks("sh") for name in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets


NOT_RUNS = [(page, start) for page, starts in NOT_RUN.items() for start in starts]


@pytest.mark.parametrize(("page", "start"), NOT_RUNS)
def test_a_command_that_is_not_run_is_on_its_page(page: str, start: str) -> None:
    texts = [
        text
        for block in blocks_of(page)
        for text in (commands(block) if block.language in SHELLS else [block.text])
    ]
    assert any(text.startswith(start) for text in texts)


def test_a_command_of_the_readme_is_in_its_five_minutes_or_is_not_run() -> None:
    """The test of the tutorial runs the five minutes."""
    readme = (ROOT / "README.md").read_text().partition("## Get started")[2].partition("\n## ")[0]
    run = [block.text for block in blocks_of("README.md", readme)]
    rest = [block for block in blocks_of("README.md") if block.text not in run and block.language in SHELLS]
    for command in (command for block in rest for command in commands(block)):
        assert command.startswith(tuple(NOT_RUN["README.md"]))


def test_the_five_minutes_of_the_readme_are_steps_of_the_tutorial() -> None:
    """These blocks are run by another test."""
    readme = (ROOT / "README.md").read_text().partition("## Get started")[2].partition("\n## ")[0]
    steps = re.findall(r"^```\w+\n.*?^```", readme, re.MULTILINE | re.DOTALL)
    tutorial = (ROOT / "docs/tutorial.md").read_text()
    assert steps
    assert [step for step in steps if step not in tutorial] == []
