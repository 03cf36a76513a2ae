"""Compare relay with other queues, or measure how its rate changes with size: `python -m bench [--growth]`.

Everything runs on this machine: one Redis without persistence, nginx as the receiver, and the same number of
worker processes for each system. A backlog is drained completely or for --seconds; figures are medians of the
rounds. Systems that are not installed are skipped; `bench/peers/install` installs them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import growth, machine, plots, suite, tables
from bench.measure import Servers
from bench.systems import SYSTEMS, System
from bench.workloads import WORKLOADS


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--growth",
        action="store_true",
        help="measure only relay, with growing numbers: one table for each --kind",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=growth.KINDS,
        metavar="KIND",
        help="only this table of --growth; repeatable. "
        + ", ".join(f"{name}: {grows}" for name, grows in growth.KINDS.items()),
    )
    parser.add_argument("--messages", type=int, default=100_000, help="size of a backlog; default 100000")
    parser.add_argument(
        "--most",
        type=int,
        default=1_000_000,
        help="the largest number of --growth: messages of a backlog, delayed ones, targets of all fan-outs; "
        "default 1000000",
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="drain a backlog for at most this long; default 5"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds; default 3")
    parser.add_argument("--per-second", type=int, default=1000, help="steady rate; default 1000")
    parser.add_argument(
        "--steady-seconds",
        type=float,
        default=8.0,
        help="duration of the steady rate; default 8; 0: backlogs only",
    )
    parser.add_argument("--processes", type=int, default=1, help="worker processes of each system; default 1")
    parser.add_argument(
        "--work",
        action="append",
        choices=[workload.name for workload in WORKLOADS],
        help="only these workloads",
    )
    parser.add_argument("--system", action="append", help="only relay and these systems")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write charts to this folder, as SVG")
    return parser.parse_args()


def chosen_systems(named: list[str] | None) -> list[System]:
    """Return the systems that can run here. Log the others with the reason."""
    known = [system.name for system in SYSTEMS]
    unknown = set(named or ()) - set(known)
    if unknown:
        raise SystemExit(f"--system: no {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    chosen = []
    for system in SYSTEMS:
        if named and system.name not in {"relay", *named}:
            continue
        missing = system.missing()
        if missing:
            say(f"{system.name}: skipped: {missing}")
        else:
            chosen.append(system)
    return chosen


def measure(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {"machine": machine.facts(), "versions": machine.versions()}
    systems = [] if options.growth else chosen_systems(options.system)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # nginx's worker may run as another user.
        folder.chmod(0o755)
        servers = Servers(folder)
        try:
            results["versions"] |= {"redis": servers.redis_version, "nginx": servers.nginx.version}
            if options.growth:
                chosen = growth.cases(options.messages, options.most, options.kind)
                return results | growth.run(servers, chosen, options.seconds, options.rounds, say)
            plan = suite.Plan(
                [workload for workload in WORKLOADS if not options.work or workload.name in options.work],
                systems,
                options.messages,
                options.seconds,
                options.rounds,
                options.per_second,
                options.steady_seconds,
                options.processes,
            )
            return results | suite.document(suite.run(servers, plan, say))
        finally:
            servers.close()


def main() -> None:
    options = arguments()
    results = measure(options)
    results["machine"]["load after"] = machine.load()
    for part in ("machine", "versions"):
        print("; ".join(f"{name} {value}" for name, value in results[part].items()), end="\n\n")
    print(tables.growth(results) if options.growth else tables.suite(results))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    if options.plots:
        for path in plots.write(results, options.plots):
            say(f"wrote {path}")


if __name__ == "__main__":
    main()
