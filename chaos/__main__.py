"""`python -m chaos`: run a plan, print the account; exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from chaos import report
from chaos.plan import make_plan
from chaos.run import run

TOPOLOGIES = ("single", "sentinel", "cluster")


def main() -> int:
    words = _arguments()
    # Whatever ends this run has to end what it started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    topologies = TOPOLOGIES if words.topology == "all" else (words.topology,)
    folder = words.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    results = []
    for topology in topologies:
        plan = make_plan(words.seed, words.seconds, words.messages, topology, words.faults)
        _say(str(plan))
        if words.plan:
            continue
        result = asyncio.run(run(plan, folder / topology, _say))
        results.append(result)
        print(report.markdown(result), end="\n\n", flush=True)
        for line in report.violations(result):
            _say(line)
    if words.json is not None:
        words.json.write_text(json.dumps([report.as_data(result) for result in results], indent=2))
    _say(f"logs: {folder}")
    return int(any(result.verdict.violations for result in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600, help="how long messages and faults come")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--faults", type=int, help="default: one for each 1.2 s, of long runs for each 6 s")
    parser.add_argument("--topology", choices=[*TOPOLOGIES, "all"], default="single")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the account there")
    parser.add_argument("--folder", type=Path, help="for logs and Redis's files; default: a new one")
    parser.add_argument("--plan", action="store_true", help="print the plan and do nothing")
    words = parser.parse_args()
    if words.folder is not None and words.folder.exists() and any(words.folder.iterdir()):
        parser.error(f"--folder: {words.folder} is not empty; name a new folder")
    return words


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}" if line else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
