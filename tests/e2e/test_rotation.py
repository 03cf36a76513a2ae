"""A new password and a new authority for Redis, while a worker runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from redis import Redis

from testing.http2_server import certificates
from testing.ports import free_port
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from testing.site import webhook
from tests.e2e.test_redis_connections import BINARY, needs_tls


@needs_tls
async def test_a_new_password_and_a_new_authority_are_used_without_a_restart(
    tmp_path: Path, receiver: Receiver
) -> None:
    authority, certificate, key = certificates(tmp_path)
    (tmp_path / "later").mkdir()
    later = certificates(tmp_path / "later")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(authority))
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--requirepass", "first-word")
    server = RedisServer(BINARY, tmp_path / "redis", *options, *files, password="first-word").start()
    url_file = tmp_path / "redis.url"

    def write_url(password: str) -> None:
        url_file.write_text(f"rediss://:{password}@127.0.0.1:{port}/0?ssl_ca_certs={authority}\n")

    write_url("first-word")
    config = write_config(tmp_path, "", {"hook": webhook(receiver)}, redis={"url_file": str(url_file)})
    try:
        # Authenticated once and for all: this connection is not cut.
        with Redis(port=server.port, password="first-word") as operator:

            def push(number: int) -> None:
                operator.rpush("notifications", json.dumps({"payload": {"body": number}}))

            async with worker(config) as running:
                push(1)
                await receiver.until(1)

                operator.config_set("requirepass", "second-word")
                write_url("second-word")
                operator.client_kill_filter(_type="normal", skipme=True)
                operator.client_kill_filter(_type="pubsub", skipme=True)
                push(2)
                await receiver.until(2)

                for new, old in zip(later, (authority, certificate, key), strict=True):
                    old.write_bytes(new.read_bytes())
                certificate_files = {"tls-cert-file": str(certificate), "tls-key-file": str(key)}
                operator.execute_command(
                    "CONFIG SET", *(word for pair in certificate_files.items() for word in pair)
                )
                operator.client_kill_filter(_type="normal", skipme=True)
                operator.client_kill_filter(_type="pubsub", skipme=True)
                push(3)
                await receiver.until(3)

                url_file.write_text("half a u")
                operator.client_kill_filter(_type="normal", skipme=True)
                push(4)
                await receiver.until(4)
                await running.says("cannot read `redis.url_file` again")

                write_url("second-word")
                running.signal(signal.SIGHUP)
                await running.says("ready", 2)
                push(5)
                await receiver.until(5)
                assert not [line for line in running.lines if "needs a restart" in line["event"]]
                assert not [line for line in running.lines if "second-word" in str(line)]
    finally:
        server.stop()


async def test_a_password_in_the_file_itself_changes_by_a_reload_whenever_that_comes(
    tmp_path: Path, receiver: Receiver
) -> None:
    options = ("--requirepass", "first-word")
    server = RedisServer(BINARY, tmp_path / "redis", *options, password="first-word").start()

    def write_password(password: str) -> Path:
        return write_config(
            tmp_path, f"redis://:{password}@127.0.0.1:{server.port}/0", {"hook": webhook(receiver)}
        )

    try:
        with Redis(port=server.port, password="first-word") as operator:
            async with worker(write_password("first-word")) as running:
                operator.config_set("requirepass", "second-word")
                for kind in ("normal", "pubsub"):
                    operator.client_kill_filter(_type=kind, skipme=True)
                # Too early: the file has the old password still.
                running.signal(signal.SIGHUP)
                await running.says("Redis refuses this worker; it tries again")
                write_password("second-word")
                running.signal(signal.SIGHUP)
                await running.says("ready", 2)
                operator.rpush("notifications", json.dumps({"payload": {"body": 1}}))
                await receiver.until(1)
    finally:
        server.stop()
