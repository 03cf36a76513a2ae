"""Instructions of a worker for one message: `python -m bench.instructions --work webhook --kind providers`.

The worker drains a backlog under callgrind (of valgrind), which counts each instruction of the program, but
not of the kernel. Unlike times, the counts hardly depend on what else the machine does. The table also names
the instructions in each library.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench import growth
from bench.measure import Servers
from bench.systems import Relay
from bench.workloads import WORKLOADS, Workload

KINDS = ("providers", "payload", "groups", "tokens")

PATIENCE = 600.0
"""Seconds until a worker that does not deliver is given up: callgrind is 50 times slower."""

OUT = "callgrind.out"

PARTS = {
    "python": "Python",
    "libcurl": "libcurl",
    "libcrypto": "OpenSSL",
    "libssl": "OpenSSL",
    "libc.so": "libc",
}
"""Names of the parts by the beginning of a file's name; others count by the name of their file."""


@dataclass(frozen=True, slots=True)
class Count:
    instructions: float
    """Of one message."""
    parts: Counter[str]
    """The same for each library."""


def counted(folder: Path) -> Relay:
    """Return relay under callgrind, which does not count before `_count`."""
    binary = shutil.which("valgrind")
    if binary is None:
        raise SystemExit("no valgrind: install the package valgrind")
    return Relay(
        prefix=(binary, "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder / OUT}")
    )


def count(servers: Servers, workload: Workload, messages: int) -> Count:
    """Count the instructions of a backlog, without its first third."""
    system = counted(servers.folder)
    servers.fill(system, workload, messages)
    arrivals = servers.nginx.arrivals()
    url = servers.nginx.tls if workload.tls else servers.nginx.plain
    with servers.running(system, workload, servers.setting(url)) as process:
        total = messages // workload.per_request

        def arrived(least: int, seen: int) -> int:
            deadline = time.monotonic() + PATIENCE
            while seen < least:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((servers.folder / "output.log").read_text()[-2000:] or "nothing arrives")
                time.sleep(0.02)
                seen += len(arrivals.read())
            return seen

        first = arrived(total // 3, 0)
        _count(process, "on")
        first = arrived(first, first)
        arrived(total, first)
        _count(process, "off")
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    arrivals.close()
    parts = _parts(servers.folder / OUT)
    done = (total - first) * workload.per_request
    return Count(sum(parts.values()) / done, Counter({name: cost / done for name, cost in parts.items()}))


def _count(process: subprocess.Popen[bytes], switch: str) -> None:
    """Let callgrind begin (`on`) or stop (`off`) to count."""
    control = str(shutil.which("callgrind_control"))
    subprocess.run([control, f"--instr={switch}", str(process.pid)], check=True, capture_output=True)


def _parts(file: Path) -> Counter[str]:
    """Return the instructions for each library, by callgrind_annotate."""
    annotate = str(shutil.which("callgrind_annotate"))
    words = [annotate, "--auto=no", "--threshold=100", "--show-percs=no", str(file)]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    parts: Counter[str] = Counter()
    for cost, library in re.findall(r"^ *([\d,]+)  .*\[(\S+)\]$", text, re.MULTILINE):
        name = Path(library).name
        known = next((part for prefix, part in PARTS.items() if name.startswith(prefix)), name.split(".")[0])
        parts[known] += int(cost.replace(",", ""))
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--work", action="append", default=[], choices=names, help="only these workloads")
    parser.add_argument("--kind", action="append", default=[], choices=KINDS, help="these cases of --growth")
    parser.add_argument("--messages", type=int, default=3_000, help="size of the backlog; default 3000")
    options = parser.parse_args()
    chosen = [(workload.name, workload) for workload in WORKLOADS if workload.name in options.work]
    cases = growth.cases(options.messages, options.messages, options.kind or ["none"])
    chosen += [(f"{case.kind} {case.name}", case.workload) for case in cases]
    print("| backlog | instructions a message | of them |\n| --- | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        servers = Servers(folder)
        try:
            for title, workload in chosen:
                found = count(servers, workload, options.messages)
                parts = ", ".join(f"{part} {cost:,.0f}" for part, cost in found.parts.most_common(8))
                print(f"| {title} | {found.instructions:,.0f} | {parts} |", flush=True)
        finally:
            servers.close()


if __name__ == "__main__":
    main()
