"""A name server that never answers, in a network of its own: needs Linux and the right to make one."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IN_A_NETWORK_OF_ITS_OWN = ["unshare", "--map-root-user", "--mount", "--net"]

SCRIPT = """
import asyncio, socket
from relay.errors import TransportError
from relay.http.aiohttp_transport import AiohttpTransport
from relay.http.curl_transport import CurlTransport
from relay.http.reqwest_transport import ReqwestTransport
from relay.provider import Request

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))

async def main(kind):
    transport = kind(timeout=0.4, concurrency=4)
    try:
        await transport.send(Request("http://slow.example/", b"x"))
    except TransportError as error:
        print(error)
    await transport.close()

for kind in (AiohttpTransport, CurlTransport, ReqwestTransport):
    asyncio.run(main(kind))
print("closed")
"""


def can_unshare() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    command = [*IN_A_NETWORK_OF_ITS_OWN, "sh", "-c", "ip link set lo up && mount --bind /dev/null /etc/hosts"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no network namespaces here")
async def test_a_silent_name_server_holds_neither_a_transport_nor_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    shell = f'ip link set lo up && mount --bind {resolv} /etc/resolv.conf && exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *IN_A_NETWORK_OF_ITS_OWN,
        *("sh", "-c", shell, "sh", sys.executable, "-c", SCRIPT),
        cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    *reasons, last = out.decode().splitlines()
    assert last == "closed"
    assert all("no answer within" in reason for reason in reasons)
    assert len(reasons) == 3
