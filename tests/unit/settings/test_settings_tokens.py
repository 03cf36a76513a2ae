"""Admin tokens: a placeholder neither opens the port nor turns the token off."""

from __future__ import annotations

import pytest

from tests.unit.settings.conftest import Problems, Read

HEAD = "queues: [{name: a}]\nproviders:\n  p:\n    type: webhook\n"
ADMIN = HEAD + "admin: {token: ${RELAY_ADMIN_TOKEN:-}}\n"


@pytest.mark.parametrize(
    "value",
    ["null", "NULL", "~", "none", "changeme", "<your-token>", "xxxxxxxxxxxx", "short", " spaced-token "],
)
def test_a_placeholder_in_the_environment_is_refused(problems: Problems, value: str) -> None:
    (problem,) = problems(ADMIN, RELAY_ADMIN_TOKEN=value)
    assert problem.startswith("relay.yaml:5:16: admin.token: ")
    assert "generate" in problem
    assert value.strip() not in problem.replace("openssl", "") or value in ("~", "short")


@pytest.mark.parametrize("written", ["null", "~", "", '""'])
def test_an_empty_token_in_the_file_is_none(read: Read, written: str) -> None:
    assert read(f"{HEAD}admin: {{listen: '127.0.0.1:1', token: {written}}}\n").admin.token is None


def test_a_token_from_the_environment_is_taken_as_it_is(read: Read) -> None:
    token = read(ADMIN, RELAY_ADMIN_TOKEN="0f3b9c2e77aa41d8").admin.token
    assert token is not None
    assert token.get_secret_value() == "0f3b9c2e77aa41d8"
