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
from relay.http.curl_transport import CurlTransport
from relay.http.curl_http2 import CurlHttp2Transport
from relay.provider import Request
from testing.raw_server import keeps_answering, serving

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))

def guarded(**options):
    return CurlTransport(allowed=(), **options)

async def fails(kind):
    transport = kind(timeout=0.4, concurrency=4)
    try:
        await transport.send(Request("http://slow.example/", b"x"))
    except TransportError as error:
        print(error)
    await transport.close()

async def holds_up_no_other_provider():
    slow, other = guarded(timeout=60, concurrency=40), CurlTransport(timeout=60, concurrency=4)
    waiting = [
        asyncio.create_task(slow.send(Request(f"http://{number}.example/", b"x"))) for number in range(40)
    ]
    await asyncio.sleep(0.2)  # no event says that lookups are under way
    async with serving(keeps_answering([])) as port:
        # Not "localhost": libcurl does not look that name up.
        print((await other.send(Request(f"http://receiver:{port}/", b"x"))).status)
    print(sum(task.done() for task in waiting))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await slow.close()
    await other.close()

for kind in (CurlTransport, guarded, CurlHttp2Transport):
    asyncio.run(fails(kind))
asyncio.run(holds_up_no_other_provider())
print("closed")
"""


def can_unshare() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    command = [*IN_A_NETWORK_OF_ITS_OWN, "sh", "-c", "ip link set lo up && mount --bind /dev/null /etc/hosts"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no network namespaces here")
async def test_a_silent_name_server_delays_neither_another_transport_nor_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 receiver\n")
    shell = (
        f"ip link set lo up && mount --bind {resolv} /etc/resolv.conf && mount --bind {hosts} /etc/hosts"
        ' && exec "$@"'
    )
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
    *reasons, status, ended, last = out.decode().splitlines()
    assert (status, ended, last) == ("200", "0", "closed")
    assert all("no answer within" in reason for reason in reasons)
    assert len(reasons) == 3
