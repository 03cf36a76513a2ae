"""Measures relay beside what else people use, or how it bears growth: `python -m bench [--growth]`.

All on this machine: one Redis without persistence, nginx as the receiver, as many worker processes of each.
A backlog is drained to its end or for --seconds; figures are medians of the rounds. Peers that are not
installed are left out: `bench/peers/install`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import growth, machine, plots, suite, tables
from bench.measure import Place
from bench.systems import SYSTEMS, System
from bench.work import WORKS


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--growth", action="store_true", help="relay alone, as things grow")
    parser.add_argument("--messages", type=int, default=100_000, help="a backlog; default 100000")
    parser.add_argument("--most", type=int, default=1_000_000, help="the largest backlog of --growth")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="for which it is drained, at most; default 5"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--per-second", type=int, default=1000, help="the steady rate; default 1000")
    parser.add_argument(
        "--steady-seconds", type=float, default=8.0, help="default 8; 0: backlogs only, no steady rate"
    )
    parser.add_argument("--processes", type=int, default=1, help="of each system; default 1")
    parser.add_argument("--work", action="append", choices=[work.name for work in WORKS], help="these only")
    parser.add_argument("--system", action="append", help="relay and these only")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write charts there, as SVG")
    return parser.parse_args()


def chosen_systems(named: list[str] | None) -> list[System]:
    """Those that can run here; what others lack is said."""
    known = [system.name for system in SYSTEMS]
    unknown = set(named or ()) - set(known)
    if unknown:
        raise SystemExit(f"--system: no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = []
    for system in SYSTEMS:
        if named and system.name not in {"relay", *named}:
            continue
        missing = system.missing()
        if missing:
            say(f"{system.name}: left out: {missing}")
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
        place = Place(folder)
        try:
            results["versions"] |= {"redis": place.redis_version, "nginx": place.nginx.version}
            if options.growth:
                chosen = growth.cases(options.messages, options.most)
                return results | growth.run(place, chosen, options.seconds, options.rounds, say)
            plan = suite.Plan(
                [work for work in WORKS if not options.work or work.name in options.work],
                systems,
                options.messages,
                options.seconds,
                options.rounds,
                options.per_second,
                options.steady_seconds,
                options.processes,
            )
            return results | suite.document(suite.run(place, plan, say))
        finally:
            place.close()


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
