"""The command `relay sandbox`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.cli.sandbox import kept_keys
from relay.sandbox.server import Sandbox
from testing.sandbox_process import command, started


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keys that are made once are kept for the next test."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_prints_a_block_a_line_for_each_request_and_a_summary(number: int) -> None:
    async with command("--listen", "127.0.0.1:0", "--fail", "100%") as process:
        url, providers = await started(process)
        assert providers["pusher"]["url"] == url
        async with ClientSession() as session, session.post(f"{url}/webhook", data="{}") as answer:
            assert answer.status == 401
        process.send_signal(number)
        out, err = await process.communicate()
    assert process.returncode == 0
    assert out.decode() == "401 webhook /webhook POST {}\n"
    assert "webhook: 0 accepted, 1 refused, 0 unanswered, 0 duplicates in 1 requests" in err.decode()


async def test_a_quiet_sandbox_prints_no_requests_and_needs_no_reader() -> None:
    for words in (["--quiet"], []):
        async with command("--listen", "127.0.0.1:0", *words) as process:
            url, _ = await started(process)
            if not words:
                # Close the pipe, as `| head` does when it has enough.
                output: Any = process.stdout
                output._transport.close()  # noqa: SLF001 - no public way
            async with ClientSession() as session:
                for _ in range(3):
                    async with session.post(f"{url}/webhook") as answer:
                        assert answer.status == 401
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(120):
                await process.wait()
            assert process.returncode == 0


async def test_an_impossible_option_is_one_line_and_exit_code_2(sandbox: Sandbox) -> None:
    for words, why in (
        (["--listen", sandbox.url.removeprefix("http://")], "Address already in use; --listen takes another"),
        (["--listen", "8089"], "--listen: '8089' is not HOST:PORT"),
        (["--webhook-secret", "whsec_%"], "--webhook-secret: the webhook secret must be whsec_"),
        (["--rate-limit", "fast"], "--rate-limit: "),
    ):
        async with command(*words) as process:
            _, err = await process.communicate()
            assert (process.returncode, why in err.decode(), err.count(b"\n")) == (2, True, 1), err


def test_keys_are_kept_in_the_cache_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_keys() == tmp_path / "relay" / "sandbox"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kept_keys() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert kept_keys() == tmp_path / "home" / ".cache" / "relay" / "sandbox"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--listen", "0.0.0.0:0"], "--token"),
        (["--listen", "[::]:0"], "--token"),
        (["--listen", "0.0.0.0:0", "--token", "null"], "shorter than 8"),
        (["--listen", "0.0.0.0:0", "--token", ""], "shorter than 8"),
    ],
)
async def test_other_hosts_need_a_token(words: list[str], problem: str) -> None:
    async with command(*words) as process:
        _, said = await process.communicate()
    assert process.returncode == 2
    assert problem in said.decode()
