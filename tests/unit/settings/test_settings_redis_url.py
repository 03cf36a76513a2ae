"""The options behind the `?` of a Redis URL, and files with secrets that others can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.settings.exposure import exposed
from tests.unit.settings.conftest import Problems, Read

CONFIG = """\
redis: {{url: "{url}"}}
queues: [{{name: q, provider: pusher}}]
providers:
  pusher: {{type: pusher, app_id: "1", key: abc, secret: hunter2}}
"""

REFUSED = {
    "rediss://h/0?ssl_cert_reqs=none": "ssl_cert_reqs=none: the server's certificate is always verified",
    "rediss://h/0?ssl_cert_reqs=optional": "ssl_cert_reqs=optional: the server's certificate is always",
    "rediss://h/0?ssl_cert_reqs=": "ssl_cert_reqs=: the server's certificate is always verified",
    "rediss://h/0?ssl_check_hostname=false": "ssl_check_hostname=false: the server's certificate is always",
    "rediss+sentinel://h/main/0?ssl_cert_reqs=none": "ssl_cert_reqs=none: the server's certificate is always",
    "rediss+cluster://h?ssl_check_hostname=False": "ssl_check_hostname=False: the server's certificate is",
    "rediss://h/0?ssl_ciphers=aNULL:@SECLEVEL=0": "leaves the server unverified or the connection in clear",
    "rediss://h/0?ssl_ciphers=eNULL:@SECLEVEL=0": "leaves the server unverified or the connection in clear",
    "rediss://h/0?ssl_ciphers=nonsense": "ssl_ciphers: unknown to OpenSSL",
    "redis://h/0?ssl_ca_certs=/ca.pem": "ssl_ca_certs needs TLS: write rediss instead of redis",
    "redis://h/0?client_nam=x": "unknown option client_nam; allowed are client_name, db",
    "redis://user:12?hunter2@h/0": "",
    "redis://h/0?db=one": "db: write the number of a database",
}


@pytest.mark.parametrize("url", REFUSED)
def test_an_option_that_cannot_hold_is_refused_with_its_place(problems: Problems, url: str) -> None:
    (problem,) = problems(CONFIG.format(url=url))
    assert problem.startswith("relay.yaml:1:14: redis.url: ")
    assert REFUSED[url] in problem
    assert "hunter2" not in problem


def test_options_that_keep_the_server_verified_are_accepted(read: Read) -> None:
    url = "rediss://h/0?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ciphers=ECDHE%2BAESGCM&ssl_ca_certs=/x"
    assert read(CONFIG.format(url=url)).redis.read_url() == url


def test_files_with_secrets_are_known_and_world_readable_ones_are_named(
    open_folder: Path, tmp_path: Path, read: Read
) -> None:
    shut, ajar = open_folder / "shut", open_folder / "ajar"
    for path, mode in ((shut, 0o640), (ajar, 0o644)):
        path.write_text("redis://h/0" if path == ajar else "s3cret")
        path.chmod(mode)
    text = CONFIG.replace("secret: hunter2", "secret_file: shut").replace('url: "{url}"', "url_file: ajar")
    settings = read(text.format(), str(open_folder / "relay.yaml"))
    assert set(settings.secret_files) == {shut, ajar}
    assert exposed(settings.secret_files) == [ajar]
    assert exposed([open_folder / "gone"]) == []
    closed = tmp_path / "closed"
    closed.write_text("s3cret")
    closed.chmod(0o644)
    tmp_path.chmod(0o700)
    assert exposed([closed]) == [], "nobody else gets as far as this file"


def test_a_configuration_that_holds_a_secret_is_one_of_these_files(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "relay.yaml"
    assert read(CONFIG.format(url="redis://h"), str(path)).secret_files == (path,)
    text = CONFIG.format(url="redis://h").replace("hunter2", "${SECRET}")
    assert read(text, str(path), SECRET="hunter2").secret_files == ()


def test_a_url_file_is_read_again_each_time(tmp_path: Path, read: Read) -> None:
    (tmp_path / "url").write_text("redis://:one@h/0\n")
    text = CONFIG.replace('url: "{url}"', "url_file: url").format()
    settings = read(text, str(tmp_path / "relay.yaml"))
    (tmp_path / "url").write_text("redis://:two@h/0\n")
    assert settings.redis.read_url() == "redis://:two@h/0"
    (tmp_path / "url").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        settings.redis.read_url()
