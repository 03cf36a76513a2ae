"""`python -m chaos`: execute a plan and print the result. Exit code 1 if a promise was broken."""

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
    options = _arguments()
    # SIGTERM must also stop the processes that this run has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    topologies = TOPOLOGIES if options.topology == "all" else (options.topology,)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    results = []
    for topology in topologies:
        plan = make_plan(options.seed, options.seconds, options.messages, topology, options.faults)
        _say(str(plan))
        if options.plan:
            continue
        result = asyncio.run(run(plan, folder / topology, _say))
        results.append(result)
        print(report.markdown(result), end="\n\n", flush=True)
        for line in report.violations(result):
            _say(line)
    if options.json is not None:
        options.json.write_text(json.dumps([report.as_data(result) for result in results], indent=2))
    _say(f"logs: {folder}")
    return int(any(result.verdict.violations for result in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600, help="duration of messages and faults")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument(
        "--faults", type=int, help="number of faults; default: one per 1.2 s, in long runs one per 6 s"
    )
    parser.add_argument("--topology", choices=[*TOPOLOGIES, "all"], default="single")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    parser.add_argument("--folder", type=Path, help="folder for logs and Redis's files; default: a new one")
    parser.add_argument("--plan", action="store_true", help="only print the plan")
    options = parser.parse_args()
    if options.folder is not None and options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"--folder: {options.folder} is not empty; name a new folder")
    return options


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}" if line else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
