"""The commands and samples of the pages that no test runs, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping

REGISTRY = "installs from a package index; tests/e2e/test_wheel.py installs the wheel itself"
SUITE = "is this suite, or runs it"
MINUTES = "takes minutes"
ENGINE = "needs a container engine; tests/unit/test_deploy_page.py gives its words to the tools that are here"
CLUSTER = "needs a cluster; tests/unit/test_deploy_page.py gives its words to helm and kubectl"
ROOT = "needs root and a host of its own; tests/unit/test_deploy_page.py installs into a folder"
RELEASE = "needs the files of a release; tests/unit/release and `make release-check` install them"
OTHERS = "is the program that relay replaces"
TERMINAL = "fills a terminal until a key is pressed; tests/e2e/test_watch.py presses it"

NOT_RUN: Mapping[str, Mapping[str, str]] = {
    "CONTRIBUTING.md": {"make ": SUITE, ".venv/bin/python -m pytest": SUITE},
    "README.md": {"make demo": "tests/e2e/test_demo.py runs `relay demo`", "make test": SUITE},
    "docs/how-to/push-messages.md": {"type object map": "Go would download its Redis client for each run"},
    "docs/explanation/reliability.md": {
        "make chaos CHAOS='--seed 7 --plan'": "tests/faults/test_chaos_plan.py makes plans",
        "make chaos": f"{MINUTES}; tests/faults/test_chaos.py has a short run",
    },
    "docs/how-to/deploy.md": {
        "python3 -m venv": REGISTRY,
        "install ": ROOT,
        "systemctl": ROOT,
        "docker ": ENGINE,
        "cd deploy/compose": ENGINE,
        "RELAY_FILE=": ENGINE,
        "kubectl ": CLUSTER,
        "helm ": CLUSTER,
    },
    "docs/how-to/migrate.md": {
        "while True:": OTHERS,
        "class NotifyJob": OTHERS,
        "@app.task": OTHERS,
        "n = Rpush": OTHERS,
        "await svix": OTHERS,
    },
    "docs/how-to/monitor.md": {"pip install": REGISTRY},
    "docs/how-to/release.md": {
        "make ": MINUTES,
        "sha256sum": RELEASE,
        "pip install": RELEASE,
    },
    "docs/how-to/upgrade.md": {"python3 -m venv": REGISTRY},
    "docs/how-to/watch-a-fleet.md": {"relay status --watch": TERMINAL},
    "docs/tutorial.md": {"python3 -m venv": REGISTRY, "pip install": REGISTRY},
    "docs/reference/extras.md": {"pip install": REGISTRY},
    "docs/reference/providers/apprise.md": {"pip install": REGISTRY},
    "docs/reference/providers/pusher.md": {"pip install": REGISTRY},
    "examples/outbox/README.md": dict.fromkeys(
        ("pip", "export", "psql", "python"),
        "tests/e2e/test_outbox_example.py runs these commands on a PostgreSQL",
    ),
    "examples/socketio/README.md": {
        "npm ci": "testing/node_packages.py installs the same versions",
        "REDIS_URL=": "tests/e2e/test_socketio.py runs the servers and browsers",
    },
}
"""Beginnings of commands, by page."""


def reason(page: str, text: str) -> str | None:
    """Return the reason why this command or sample of the page is not run; None if it is."""
    found = (why for start, why in NOT_RUN.get(page, {}).items() if text.startswith(start))
    return next(found, None)
