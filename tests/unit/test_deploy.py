"""The files in deploy/ against the tools that read them, and against relay itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.provider import AdapterOptions, discover
from relay.sandbox.options import SandboxOptions
from relay.settings.load import load
from testing.containerfile import FILE, context, parse

GO = Path.home() / "go"


def tool(name: str) -> str | None:
    """The path of a program that `.ci/run` installs, if it is here."""
    return shutil.which(name) or shutil.which(name, path=GO / "bin")


HELM = tool("helm")
KUBECONFORM = tool("kubeconform")
COMPOSE = tool("docker-compose")
CHART = Path("deploy/helm/relay")
KINDS = (
    "configmap-v1.json",
    "deployment-apps-v1.json",
    "networkpolicy-networking-v1.json",
    "poddisruptionbudget-policy-v1.json",
    "service-v1.json",
    "serviceaccount-v1.json",
)
"""The files with the schemas of the chart's resources that are Kubernetes' own."""

DEFINITIONS = (
    "kedacore/keda/v2@v2.20.2/config/crd/bases/keda.sh_scaledobjects.yaml",
    "prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    "prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
)
"""The definitions of resources that are not Kubernetes' own, in the folder of downloaded Go modules."""

SECRETS = {"RELAY_REDIS_URL": "redis://redis:6379/0", "RELAY_ADMIN_TOKEN": "4f9d2b1c7a8e6035" * 2}


def rendered(*words: str) -> list[dict[str, Any]]:
    assert HELM
    command = [HELM, "template", "night", str(CHART), "--kube-version", "1.33.0", *words]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [document for document in yaml.safe_load_all(found.stdout) if document]


def closed(schema: Any) -> Any:
    """The schema, which refuses fields that it does not name, as a strict API server does."""
    match schema:
        case {"properties": dict(properties), **rest} if not rest.get("x-kubernetes-preserve-unknown-fields"):
            known = {name: closed(field) for name, field in properties.items()}
            return {"additionalProperties": False, **rest, "properties": known}
        case dict():
            return {name: closed(field) for name, field in schema.items()}
        case _:
            return schema


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A JSON Schema for each kind of resource, each complete, in a folder as kubeconform names it."""
    folder = tmp_path_factory.mktemp("schemas")
    modules = GO / "pkg" / "mod" / "github.com"
    if not all((modules / file).exists() for file in DEFINITIONS):
        pytest.skip("the definitions of KEDA and of the Prometheus operator are not here: see .ci/run")
    of_kubernetes = files("kubernetes_validate") / "kubernetes-json-schema" / "v1.33.0-local-strict"
    shared = json.loads(
        (of_kubernetes / "_definitions.json").read_text().replace("/api/_definitions.json#", "#")
    )
    for name in KINDS:
        schema = json.loads((of_kubernetes / name).read_text().replace("/api/_definitions.json#", "#"))
        (folder / name).write_text(json.dumps(schema | shared))
    for file in DEFINITIONS:
        definition = yaml.load((modules / file).read_text(), yaml.CSafeLoader)["spec"]
        kind, group = definition["names"]["kind"].lower(), definition["group"].split(".")[0]
        for version in definition["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            (folder / f"{kind}-{group}-{version['name']}.json").write_text(json.dumps(schema))
    return f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


@pytest.mark.skipif(not HELM or not KUBECONFORM, reason="helm or kubeconform is not installed")
@pytest.mark.parametrize(
    "options", [(), ("networkPolicy", "serviceMonitor", "prometheusRule", "autoscaling")]
)
def test_the_chart_renders_resources_that_kubernetes_accepts(options: tuple[str, ...], schemas: str) -> None:
    assert KUBECONFORM
    documents = rendered(*(word for name in options for word in ("--set", f"{name}.enabled=true")))
    command = [KUBECONFORM, "-strict", "-output", "json", "-verbose", "-schema-location", schemas]
    found = subprocess.run(
        command, input=yaml.safe_dump_all(documents), capture_output=True, text=True, check=False
    )
    resources = json.loads(found.stdout)["resources"]
    assert [resource for resource in resources if resource["status"] != "statusValid"] == []
    assert len(resources) == len(documents)
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


ALERTS = Path("deploy/prometheus/alerts.yml")


@pytest.mark.skipif(not HELM, reason="helm is not installed")
def test_the_chart_has_the_alerts_of_the_file_for_prometheus() -> None:
    documents = rendered("--set", "prometheusRule.enabled=true")
    (rule,) = [found for found in documents if found["kind"] == "PrometheusRule"]
    # A ServiceMonitor names the job after the service of the release.
    expected = ALERTS.read_text().replace('job=~"relay.*"', 'job="night"')
    assert rule["spec"] == yaml.safe_load(expected)
    assert rule["spec"] != yaml.safe_load(ALERTS.read_text())


def test_the_chart_reads_the_same_file_as_prometheus() -> None:
    assert (CHART / "files" / "alerts.yml").samefile(ALERTS)
    assert "files/alerts.yml" in (CHART / "templates" / "prometheusrule.yaml").read_text()


@pytest.mark.skipif(not HELM, reason="helm is not installed")
def test_the_chart_follows_the_advice_of_helm() -> None:
    assert HELM
    linted = subprocess.run(
        [HELM, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout


def configuration_of_the_chart() -> str:
    text: str = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    return text


@pytest.mark.parametrize(
    "text",
    [
        configuration_of_the_chart(),
        Path("deploy/compose/relay.yaml").read_text(),
        Path("deploy/compose/sandbox.yaml").read_text(),
    ],
    ids=["chart", "compose", "sandbox"],
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


def test_the_image_starts_as_a_user_without_rights_and_has_a_health_check() -> None:
    build, final = parse(FILE.read_text())
    assert build.base == final.base
    assert final.value("USER").split(":")[0] not in ("", "0", "root")
    assert (final.value("ENTRYPOINT"), final.value("CMD")) == ('["relay"]', '["run"]')
    assert final.value("HEALTHCHECK").endswith('CMD ["relay", "health"]')
    assert [name for name, _ in final.steps if name in ("COPY", "ADD", "RUN")] == ["COPY"]


def test_a_build_of_the_image_sees_the_packages_and_nothing_else() -> None:
    seen = {path.relative_to(Path.cwd()).parts[0] for path in context(Path.cwd())}
    ignored = Path(".dockerignore").read_text().splitlines()
    assert seen == {line[1:] for line in ignored if line.startswith("!")}


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


def test_the_configuration_for_the_sandbox_has_its_keys() -> None:
    providers = yaml.safe_load(Path("deploy/compose/sandbox.yaml").read_text())["providers"]
    options = SandboxOptions()
    assert [providers["pusher"][key] for key in ("app_id", "key", "secret")] == [
        options.app_id,
        options.key,
        options.secret,
    ]
    assert providers["webhook"]["secret"] == options.webhook_secret


@pytest.mark.skipif(not COMPOSE, reason="docker-compose is not installed")
@pytest.mark.parametrize(
    ("profile", "services"),
    [
        ("", {"redis", "relay"}),
        ("observe", {"redis", "relay", "prometheus", "grafana"}),
        ("sandbox", {"redis", "relay", "sandbox"}),
    ],
)
def test_compose_accepts_its_file_with_each_profile(profile: str, services: set[str]) -> None:
    assert COMPOSE
    words = [
        COMPOSE,
        "-f",
        "deploy/compose/compose.yaml",
        "--profile",
        profile,
        "config",
        "--services",
    ]
    found = subprocess.run(words, env={**os.environ, **SECRETS}, capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == services


@pytest.mark.parametrize("file", ["relay.yaml", "sandbox.yaml"])
def test_each_file_that_compose_mounts_exists(file: str) -> None:
    compose = yaml.safe_load(Path("deploy/compose/compose.yaml").read_text())
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.replace("${RELAY_FILE:-relay.yaml}", file).split(":")[0]
            if source.startswith("."):
                assert Path(os.path.normpath(Path("deploy/compose") / source)).exists(), source
