"""The ways to Redis: a unix socket, TLS with client certificates, a user with no right too many."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from redis import Redis

from testing.http2_server import certificates
from testing.ports import free_port
from testing.receiver import Answer, Receiver
from testing.redis_server import RedisServer, speaks_tls
from testing.relay_process import relay, worker, write_config
from testing.site import webhook
from tests.conftest import BINARIES

BINARY = BINARIES[max(BINARIES)]
OPERATIONS = Path(__file__).parents[2] / "docs/how-to/prepare-redis.md"


needs_tls = pytest.mark.skipif(not speaks_tls(BINARY), reason="this redis-server was built without TLS")


@pytest.fixture
def pems(tmp_path: Path) -> tuple[Path, Path, Path]:
    return certificates(tmp_path)


@pytest.fixture
def tls_server(tmp_path: Path, pems: tuple[Path, Path, Path]) -> Iterator[tuple[RedisServer, int]]:
    """A server that requires client certificates, and its TLS port."""
    authority, certificate, key = map(str, pems)
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "yes", "--tls-ca-cert-file", authority)
    files = ("--tls-cert-file", certificate, "--tls-key-file", key)
    server = RedisServer(BINARY, tmp_path / "redis", *options, *files).start()
    yield server, port
    server.stop()


async def test_a_unix_socket(tmp_path: Path, receiver: Receiver) -> None:
    path = tmp_path / "redis.sock"
    server = RedisServer(BINARY, tmp_path / "redis", "--unixsocket", str(path)).start()
    try:
        config = str(write_config(tmp_path, f"unix://{path}", {"hook": webhook(receiver)}))
        await relay("push", "notifications", '{"payload": {"body": 1}}', "-c", config)
        assert (await relay("run", "-c", config, "--until-empty")).code == 0
        assert len(receiver.requests) == 1
    finally:
        server.stop()


@needs_tls
async def test_a_client_without_the_right_certificates_gets_a_clear_error(
    tmp_path: Path, receiver: Receiver, pems: tuple[Path, Path, Path], tls_server: tuple[RedisServer, int]
) -> None:
    url = f"rediss://127.0.0.1:{tls_server[1]}/0"
    for query, why in (
        ("", "certificate verify failed"),
        (f"?ssl_ca_certs={tmp_path}/none.pem", "ssl_ca_certs: cannot read the file"),
        ("?ssl_ca_cert=x", "unknown option ssl_ca_cert; allowed are"),
        ("?ssl_cert_reqs=none", "the server's certificate is always verified; leave the option out"),
    ):
        config = str(write_config(tmp_path, url + query, {"hook": webhook(receiver)}))
        told = await relay("status", "-c", config)
        assert told.code in (1, 2)
        assert why in told.err
        assert told.err.count("\n") == 1, "one line"


@needs_tls
async def test_everything_works_over_tls_for_the_user_that_the_documentation_names(
    tmp_path: Path, receiver: Receiver, pems: tuple[Path, Path, Path], tls_server: tuple[RedisServer, int]
) -> None:
    server, port = tls_server
    rules = re.search(r"ACL SETUSER (relay(?:[^`]|\\\n)+?)\n```", OPERATIONS.read_text())
    assert rules is not None
    with Redis(port=server.port) as redis:
        redis.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
        words = rules[1].replace("\\\n", " ").replace(">PASSWORD", ">s3cret").split()
        redis.execute_command("ACL SETUSER", *words)
        authority, certificate, key = map(str, pems)
        query = urlencode(
            {"ssl_ca_certs": authority, "ssl_certfile": certificate, "ssl_keyfile": key, "client_name": "r"}
        )
        url = f"rediss://relay:s3cret@127.0.0.1:{port}/0?{query}"
        receiver.answer = lambda request: Answer(400 if b"bad" in request.body else 200)
        providers = {
            "hook": webhook(receiver, dedup_window="1m", max_backlog=1000),
            "many": webhook(receiver, url=None, allow_private=True, rate="1000/s", rate_per="host"),
        }
        queue = {"name": "notifications", "provider": "hook", "providers": ["many"]}
        config = str(write_config(tmp_path, url, providers, [queue]))
        for command in ("check --connect", "status", "pause hook", "resume hook", "dead list hook"):
            done = await relay(*command.split(), "-c", config)
            assert done.code == 0, done.err
            if command.startswith("check"):
                assert "FAILED" not in done.out
                redis.execute_command("ACL LOG", "RESET")
        async with worker(Path(config)):
            messages = [
                {"id": "a", "payload": {"body": 1}, "reply_to": "receipts:1", "ordering_key": "k"},
                {"id": "a", "payload": {"body": 1}, "reply_to": "receipts:1", "ordering_key": "k"},
                {"id": "b", "payload": {"body": "bad"}, "collapse_key": "c", "reply_to": "receipts:1"},
                {"id": "c", "payload": {"body": 1}, "delay": 3600},
                {
                    "provider": "many",
                    "payload": {"body": 1, "targets": [f"{receiver.url}/{n}" for n in range(3)]},
                },
            ]
            lines = "\n".join(json.dumps(message) for message in messages)
            pushed = await relay("push", "notifications", "-", "-c", config, stdin=lines.encode())
            assert pushed.code == 0, pushed.err
            await receiver.until(5)
            async with asyncio.timeout(120):
                while redis.llen("receipts:1") < 3:
                    await asyncio.sleep(0.02)
            for command in ("cancel hook c", "dead retry hook", "dead purge hook", "status"):
                done = await relay(*command.split(), "-c", config)
                assert done.code == 0, done.err
        denied = {entry["object"] for entry in redis.execute_command("ACL LOG")}
    assert denied <= {"pubsub|channels"}, "the documentation names it as optional"
