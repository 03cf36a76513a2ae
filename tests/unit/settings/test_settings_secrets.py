"""Secrets in files of their own, and secrets that must not be seen."""
# ruff: noqa: E501 (a line of the error is one line here too)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.settings.redis_url import EmbeddedPlace
from relay.text import mask_url
from tests.unit.settings.conftest import Problems, Read

HEAD = "queues: [{name: a}]\nproviders:\n  p:\n    type: webhook\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A file's name; the files next to it hold secrets."""
    (tmp_path / "one").write_text("whsec_hunter2\n")
    (tmp_path / "many").write_text("hunter2\n\nhunter3\r\n")
    (tmp_path / "url").write_text("redis://:hunter2@host/0\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_text("x" * 100_000)
    return str(tmp_path / "relay.yaml")


def test_a_secret_is_read_from_a_file_next_to_the_configuration(read: Read, config: str) -> None:
    options: Any = read(f"{HEAD}    secret_file: one\n", config).providers["p"]
    assert options.secret.get_secret_value() == "whsec_hunter2"


def test_a_path_may_be_absolute_and_come_from_the_environment(
    read: Read, config: str, tmp_path: Path
) -> None:
    text = f"{HEAD}    secret_file: ${{SECRET_FILE}}\n"
    options: Any = read(text, config, SECRET_FILE=str(tmp_path / "one")).providers["p"]
    assert options.secret.get_secret_value() == "whsec_hunter2"


def test_a_list_of_secrets_is_read_one_from_each_line(read: Read, config: str) -> None:
    options: Any = read(f"{HEAD}    secrets_file: many\n", config).providers["p"]
    assert [secret.get_secret_value() for secret in options.secrets] == ["hunter2", "hunter3"]


def test_the_url_of_redis_and_the_admin_token_have_files_too(read: Read, config: str) -> None:
    text = f"{HEAD}redis: {{url_file: url}}\nadmin: {{listen: '0.0.0.0:1', token_file: one}}\n"
    settings = read(text, config)
    assert settings.redis.url.get_secret_value() == "redis://:hunter2@host/0"
    assert settings.admin.token is not None


def test_an_empty_secret_yields_to_its_file_and_an_empty_path_to_the_secret(read: Read, config: str) -> None:
    text = f"{HEAD}    secret: ${{SECRET:-}}\n    secret_file: ${{SECRET_FILE:-}}\n"
    empty: Any = read(text, config).providers["p"]
    assert empty.secret is None
    for env in ({"SECRET_FILE": "one"}, {"SECRET": "whsec_hunter2"}):
        options: Any = read(text, config, **env).providers["p"]
        assert options.secret.get_secret_value() == "whsec_hunter2"


WRONG = {
    "secret_file: none": '5:18: providers.p.secret_file: cannot read the file "none": No such file or directory',
    "secret_file: .": '5:18: providers.p.secret_file: cannot read the file ".": Is a directory',
    "secret_file: empty": '5:18: providers.p.secret_file: the file "empty" is empty',
    "secret_file: binary": '5:18: providers.p.secret_file: the file "binary" is not UTF-8',
    "secret_file: large": '5:18: providers.p.secret_file: the file "large" is larger than 64 KiB',
    'secret_file: "\\0"': '5:18: providers.p.secret_file: "\\u0000" is not a path',
    "secret_file: [one]": "5:18: providers.p.secret_file: expected the path of a file that holds the secret",
    "secret_file: ${NONE}": "5:18: providers.p.secret_file: the environment variable NONE is not set; set it or write ${NONE:-default}",
    "secret: whsec_a\n    secret_file: one": "6:5: providers.p.secret_file: `secret` and `secret_file` are both set; keep one",
    "secret: ''": "5:13: providers.p.secret: must not be empty",
}


@pytest.mark.parametrize(("text", "line"), WRONG.items())
def test_a_file_that_gives_no_secret(
    problems: Problems, monkeypatch: pytest.MonkeyPatch, config: str, text: str, line: str
) -> None:
    monkeypatch.chdir(Path(config).parent)  # so that paths are short enough to be shown in full
    assert problems(f"{HEAD}    {text}\n") == [f"relay.yaml:{line}"]


LEAKS = [
    "secret: hunter2",  # the adapter's own check puts it into its message
    "secret: [hunter2]",
    "secret: {hunter2: 1}",
    "secret: {a: hunter2}",
    "secret: !hunter2 x",
    "secret: *hunter2",
    "secret: &hunter2 [x]",
    "secret: @hunter2",
    "secret: %hunter2",
    "secret: hunter2: hunter2",
    'secret: "hunter2',
    "secret: 'hunter2",
    'secret: "\\qhunter2"',
    "secret: |hunter2",
    "secret: [hunter2",
    "secret: !hunter2!x y",
    "secrets: hunter2",
    "secrets: [[hunter2]]",
    "secrets: {hunter2: hunter2}",
    "secret: hunter2\n    secret: hunter2",
    "secrt: hunter2",
    "url: {a: 'https://u:hunter2@host'}",
    "timeout: https://u:hunter2@host",
    "timeout: https://host/?token=hunter2",
]


@pytest.mark.parametrize("text", LEAKS)
def test_an_error_never_shows_a_secret(problems: Problems, text: str) -> None:
    lines = problems(f"{HEAD}    {text}\n")
    assert lines
    assert "hunter2" not in "\n".join(lines)


REDIS = [
    "http://u:hunter2@h", "redis://u:hunter2@h:port", "hunter2", "redis://:hunter2@[::1/0", "redis+cluster://:hunter2@",
    "redis://:hunter2@h/x", "redis://:hunter2 @h", "redis+sentinel://:hunter2@h:1", "unix://:hunter2@", "redis://hunter2@",
]  # fmt: skip


@pytest.mark.parametrize("url", REDIS)
def test_an_error_never_shows_the_password_of_redis(problems: Problems, url: str) -> None:
    lines = problems(f"{HEAD}redis: {{url: '{url}'}}\n")
    assert lines[0].startswith("relay.yaml:5:14: redis.url: ")
    assert "hunter2" not in lines[0]


def test_settings_never_show_a_secret(read: Read) -> None:
    text = f"{HEAD}    secret: whsec_hunter2\n    secrets: [hunter2]\n"
    text += "redis: {url: 'redis://:hunter2@h'}\nadmin: {token: hunter2-hunter2}\n"
    settings = read(text)
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.redis.safe_url == "redis://:***@h"
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://user:hunter2@h:1/0", "redis://user:***@h:1/0"),
        ("redis://:hunter2@h", "redis://:***@h"),
        ("redis+sentinel://u:p@h1:1,h2:2/N/0?sentinel_password=p", "redis+sentinel://u:***@h1:1,h2:2/N/0?"
         "sentinel_password=***"),
        ("unix://u:p@/run/redis.sock", "unix://u:***@/run/redis.sock"),
        ("embedded:///var/lib/relay", "embedded:///var/lib/relay"),
        ("embedded://data?port=6380", "embedded://data?port=6380"),
        ("redis+cluster://h1:1,h2:2", "redis+cluster://h1:1,h2:2"),
        ("rediss+cluster://h1,[::1]:2", "rediss+cluster://h1,[::1]:2"),
        ("rediss+sentinel://h1/N", "rediss+sentinel://h1/N"),
    ],
)  # fmt: skip
def test_the_url_of_redis_can_be_shown_without_its_password(read: Read, url: str, safe: str) -> None:
    settings = read(f"{HEAD}redis: {{url: '{url}'}}\n")
    assert settings.redis.url.get_secret_value() == url
    assert settings.redis.safe_url == safe


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("embedded://./data", "/etc/relay/data"),
        ("embedded://../data?port=6380", "/etc/relay/../data"),
        ("embedded:///var/lib/relay", "/var/lib/relay"),
        ("embedded://~/relay", str(Path.home() / "relay")),
    ],
)
def test_the_folder_of_an_embedded_redis_begins_at_the_folder_of_the_file(
    read: Read, url: str, directory: str
) -> None:
    settings = read(f"{HEAD}redis: {{url: '{url}'}}\n", "/etc/relay/relay.yaml")
    assert EmbeddedPlace.of(settings.redis.url.get_secret_value()).directory == Path(directory)


def test_a_password_with_characters_that_no_url_may_have_is_masked_all_the_same() -> None:
    assert mask_url("redis://:a@b/c@h") == "redis://:***@h"


PUSHER = """\
queues: [{name: q, provider: p}]
providers: {p: {type: pusher, app_id: "1", key: abc, cluster: eu, secret: %s}}
"""


@pytest.mark.parametrize("written", ["${T:-}", "${T}", '"${T}"'])
@pytest.mark.parametrize("value", ["null", "~", "None", "undefined"])
def test_a_blank_variable_is_no_secret(problems: Problems, written: str, value: str) -> None:
    (problem,) = problems(PUSHER % written, T=value)
    assert problem == (
        "relay.yaml:2:75: providers.p.secret: is a placeholder and no secret; unset the variable, or set it to "
        "a generated one"
    )


def test_a_blank_variable_is_no_secret_in_a_list(problems: Problems) -> None:
    (problem,) = problems(f"{HEAD}    secrets: [whsec_one, '${{T}}']\n", T="null")
    assert problem.startswith("relay.yaml:5:26: providers.p.secrets[1]: is a placeholder")


def test_a_blank_secret_file_is_refused(tmp_path: Path, problems: Problems) -> None:
    (tmp_path / "token").write_text("null\n")
    text = (PUSHER % "x").replace("secret:", "secret_file:").replace("x}", "token}")
    (problem,) = problems(text, str(tmp_path / "relay.yaml"))
    assert problem.endswith(' holds "null", which is not a secret')
