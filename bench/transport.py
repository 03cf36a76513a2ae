"""The cost of a request by transport: `python -m bench.transport [--url URL] [--ca FILE] [--requests N]`.

One process keeps 64 requests in flight to one receiver: relay's own in Python, or the one at `--url`. A
server in C gives clearer results, because the Python one shares the two cores and is slower than the client.
CPU is that of this process with all of its threads. Then the cost of a thousand idle transports is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from relay.http import Transport, open_transport
from relay.provider import Request
from relay.settings.http import HttpOptions

IN_FLIGHT = 64
IDLE = 1000
HEADERS = {
    "content-type": "application/json",
    "webhook-id": "0197f2a8-8f6e-7cc1-b1a2-3f0a5b6c7d8e",
    "webhook-timestamp": "1800001000",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}
BODY = b'{"channel": "site-1", "hits": 3, "path": "/' + b"x" * 190 + b'"}'


async def run(transport: Transport, request: Request, count: int) -> tuple[float, float]:
    """Return requests per second, and CPU seconds per request."""
    left = iter(range(count))

    async def sender() -> None:
        for _ in left:
            response = await transport.send(request)
            assert response.status == 200, response

    await asyncio.gather(*(transport.send(request) for _ in range(IN_FLIGHT)))  # connects
    started, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - started), (time.process_time() - busy) / count


async def compare(url: str, ca: str | None, count: int, repeat: int) -> None:
    import ipaddress

    networks = [ipaddress.ip_network("127.0.0.0/8")]
    print(f"{'':24}{'requests/s':>12}{'CPU, µs each':>14}")
    ways = [("libcurl", False, False), ("libcurl, guarded", False, True)]
    if url.startswith("https:"):
        ways.append(("libcurl, HTTP/2", True, False))
    for name, http2, public_only in ways:
        options = HttpOptions.model_validate({"type": "x", "concurrency": IN_FLIGHT, "ca": ca})
        transport = open_transport(options, allowed=networks, prefers_http2=http2)
        request = Request(url, BODY, HEADERS, public_only=public_only)
        runs = [await run(transport, request, count) for _ in range(repeat)]
        rate, cpu = (median(column) for column in zip(*runs, strict=True))
        print(f"{name:24}{rate:12,.0f}{cpu * 1e6:14,.0f}", flush=True)
        await transport.close()


async def idle() -> None:
    options = HttpOptions(type="x")
    before, started = _memory(), time.perf_counter()
    transports = [open_transport(options) for _ in range(IDLE)]
    took = time.perf_counter() - started
    print(f"{IDLE} idle transports: {took * 1e3:.1f} ms, {_memory() - before:.0f} KiB")
    for transport in transports:
        await transport.close()


def _memory() -> float:
    """Return the peak memory in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="a receiver that answers 200 to a POST")
    parser.add_argument("--ca", type=Path, help="PEM file of the receiver's authority")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(idle())
        ca = arguments.ca.read_text() if arguments.ca else None
        if arguments.url:
            runner.run(compare(arguments.url, ca, arguments.requests, arguments.repeat))
            return
        with subprocess.Popen(
            [sys.executable, "-m", "bench.receiver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as receiver:
            assert receiver.stdin is not None
            assert receiver.stdout is not None
            url = f"http://127.0.0.1:{receiver.stdout.readline().strip()}/hook"
            runner.run(compare(url, ca, arguments.requests, arguments.repeat))
            receiver.stdin.close()


if __name__ == "__main__":
    main()
