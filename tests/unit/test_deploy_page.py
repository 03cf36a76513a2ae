"""The commands of docs/how-to/deploy.md for root, engines and clusters: the real tools read their words."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from testing.pages.blocks import ROOT, SHELLS, blocks, commands

HELM = shutil.which("helm") or shutil.which("helm", path=Path.home() / "go" / "bin")
COMMANDS = [
    command
    for block in blocks("docs/how-to/deploy.md")
    if block.language in SHELLS
    for command in commands(block)
]
UNIT = (ROOT / "deploy/systemd/relay.service").read_text()


def beginning(*starts: str) -> list[str]:
    found = [command for command in COMMANDS if command.startswith(starts)]
    assert found
    return found


def run(command: str, folder: Path, **variables: str) -> str:
    words = ["bash", "-euc", command]
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def test_the_user_of_the_unit_can_read_the_installed_configuration(tmp_path: Path) -> None:
    """systemd chooses the user of the unit, so the user is neither root nor in a group of the file."""
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "relay.yaml").write_text("")
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    for command in beginning("install "):
        run(command.replace(" /etc/", f" {tmp_path}/etc/"), tmp_path)
    config = re.findall(r"^ExecStart=/opt/relay/bin/relay run -c (\S+)$", UNIT, re.MULTILINE)[0]
    installed = tmp_path / config.removeprefix("/")
    assert "DynamicUser=yes" in UNIT
    assert installed.stat().st_mode & stat.S_IROTH
    assert (tmp_path / "etc/systemd/system/relay.service").read_text() == UNIT


@pytest.mark.skipif(not shutil.which("docker"), reason="docker is not installed")
def test_docker_has_the_options_of_the_page() -> None:
    for command in beginning("docker build", "docker run"):
        _, verb, *words = shlex.split(command)
        known = subprocess.run(["docker", verb, "--help"], capture_output=True, text=True, check=True).stdout
        for option in (word for word in words if word.startswith("-")):
            assert re.search(rf"(^|\s){option}\b", known), (command, option)


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_compose_accepts_each_command_of_the_page() -> None:
    for command in beginning("docker compose", "RELAY_FILE="):
        shown = command.replace("docker compose", "docker-compose").replace("up -d", "config --services")
        services = run(shown, ROOT / "deploy/compose", RELAY_ADMIN_TOKEN="4f9d2b1c7a8e6035" * 2)
        assert "relay" in services.split()


@pytest.mark.skipif(not HELM, reason="helm is not installed")
def test_the_chart_runs_the_configuration_that_the_page_passes(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("replicas: 3\n")
    shutil.copy(ROOT / "deploy/compose/relay.yaml", tmp_path)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (command,) = beginning("helm install")
    shown = command.replace("helm install", f"{HELM} template --kube-version 1.33.0")
    documents = [document for document in yaml.safe_load_all(run(shown, tmp_path)) if document]
    (config,) = [document for document in documents if document["kind"] == "ConfigMap"]
    assert (ROOT / "deploy/compose/relay.yaml").read_text().strip() in {
        text.strip() for text in config["data"].values()
    }
    (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 3


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_secret_of_the_page_is_the_one_that_the_chart_reads() -> None:
    (command,) = beginning("kubectl create secret")
    secret = yaml.safe_load(run(f"{command} --dry-run=client -o yaml", ROOT))
    values = yaml.safe_load((ROOT / "deploy/helm/relay/values.yaml").read_text())
    assert secret["metadata"]["name"] == values["secret"]
    assert set(secret["data"]) == set(re.findall(r"\$\{([A-Z_]+)\}", values["config"]))
