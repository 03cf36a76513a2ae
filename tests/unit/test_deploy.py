"""The files in deploy/ against the tools that read them, and against relay itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.provider import AdapterOptions, discover
from relay.settings.load import load

HELM = shutil.which("helm") or shutil.which("helm", path=Path.home() / "go" / "bin")
CHART = Path("deploy/helm/relay")
KINDS_OF_OTHERS = {"ScaledObject", "ServiceMonitor"}
"""Their schemas belong to KEDA and to the Prometheus operator."""

SECRETS = {"RELAY_REDIS_URL": "redis://redis:6379/0", "RELAY_ADMIN_TOKEN": "4f9d2b1c7a8e6035" * 2}


def rendered(*words: str) -> list[dict[str, Any]]:
    assert HELM
    command = [HELM, "template", "night", str(CHART), "--kube-version", "1.33.0", *words]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [document for document in yaml.safe_load_all(found.stdout) if document]


@pytest.mark.skipif(not HELM, reason="helm is not installed")
@pytest.mark.parametrize("options", [(), ("networkPolicy", "serviceMonitor", "autoscaling")])
def test_the_chart_renders_resources_that_kubernetes_accepts(options: tuple[str, ...]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    documents = rendered(*(word for name in options for word in ("--set", f"{name}.enabled=true")))
    for document in documents:
        if document["kind"] not in KINDS_OF_OTHERS:
            validate.validate(document, "1.33", strict=True)
    (deployment,) = [found for found in documents if found["kind"] == "Deployment"]
    # A fixed number would fight with the autoscaler.
    assert ("replicas" in deployment["spec"]) is ("autoscaling" not in options)


@pytest.mark.skipif(not HELM, reason="helm is not installed")
def test_a_changed_configuration_starts_new_pods() -> None:
    def checksum(*words: str) -> str:
        (deployment,) = [found for found in rendered(*words) if found["kind"] == "Deployment"]
        annotations: dict[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
        return annotations["checksum/config"]

    assert checksum() == checksum()
    assert checksum() != checksum("--set", "config=redis: {}")


def configuration_of_the_chart() -> str:
    text: str = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    return text


@pytest.mark.parametrize(
    "text",
    [configuration_of_the_chart(), Path("deploy/compose/relay.yaml").read_text()],
    ids=["chart", "compose"],
)
def test_a_configuration_in_deploy_is_valid(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "relay.yaml"
    path.write_text(text)
    assert load(path, AdapterOptions(discover())).admin.address == ("0.0.0.0", 9464)


def test_a_pod_has_longer_to_stop_than_relay_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "relay.yaml"
    path.write_text(configuration_of_the_chart())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    compose = yaml.safe_load(Path("deploy/compose/compose.yaml").read_text())
    needed = load(path, AdapterOptions(discover())).shutdown_timeout
    assert values["terminationGracePeriodSeconds"] > needed
    assert float(compose["services"]["relay"]["stop_grace_period"].rstrip("s")) > needed


def test_the_image_gets_each_file_that_its_build_reads() -> None:
    ignored = Path(".dockerignore").read_text().splitlines()
    for name in (
        "LICENSE",
        "README.md",
        "config.example.yaml",
        "hatch_build.py",
        "providers",
        "pyproject.toml",
        "relay",
    ):
        assert f"!{name}" in ignored
        assert Path(name).exists()


def test_each_file_that_compose_mounts_exists() -> None:
    compose = yaml.safe_load(Path("deploy/compose/compose.yaml").read_text())
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert Path(os.path.normpath(Path("deploy/compose") / source)).exists(), source
