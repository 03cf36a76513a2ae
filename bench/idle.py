"""The cost of an idle worker: `python -m bench.idle [--seconds N] [--providers N …] [--queues N …]`.

Measures the CPU of one worker process (all threads) and of Redis as a share of one core, the commands that
the worker sends to Redis, and its wake-ups: with one queue and with one queue per provider, or with one
provider and the number of --queues. `--profile FILE`
records a flame graph of the last run with py-spy; that run uses more CPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis import Redis

from bench import harness

WARM_UP = 5.0
"""Seconds from the start until a worker is idle."""

PY_SPY = str(Path(sys.executable).parent / "py-spy")


def switches(pid: int) -> int:
    """Return how often the process has blocked voluntarily."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def commands(redis: Redis) -> Counter[str]:
    """Return the number of commands since the start of Redis, including those of scripts."""
    stats: Mapping[str, Mapping[str, int]] = redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()})


def redis_cpu(redis: Redis) -> float:
    usage: Mapping[str, float] = redis.info("cpu")
    return usage["used_cpu_user"] + usage["used_cpu_sys"]


def run(
    folder: Path, redis: Redis, providers: int, queues: int, *, seconds: float, profile: Path | None
) -> dict[str, Any]:
    """Measure one idle worker."""
    redis.flushall()
    names = {f"q{index}": f"p{index % providers}" for index in range(queues)}
    named = {f"p{index}": harness.webhook(9) for index in range(providers)}
    with harness.workers(folder, redis, named, queues=names) as (pid,):
        time.sleep(WARM_UP)
        sent, asleep = commands(redis), switches(pid)
        used, of_redis = harness.cpu(pid), redis_cpu(redis)
        started = time.monotonic()
        if profile is not None:
            words = ["record", "--pid", str(pid), "--rate", "500", "--duration", str(int(seconds))]
            subprocess.run([PY_SPY, *words, "--output", str(profile)], check=True)
        else:
            time.sleep(seconds)
        took = time.monotonic() - started
        scripts = commands(redis) - sent
        return {
            "worker": (harness.cpu(pid) - used) / took,
            "redis": (redis_cpu(redis) - of_redis) / took,
            "wakes": (switches(pid) - asleep) / took,
            "commands": {name: calls / took for name, calls in scripts.most_common(12)},
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each run")
    parser.add_argument("--providers", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--profile", type=Path, help="an SVG file for a flame graph of the last run")
    parser.add_argument(
        "--queues",
        type=int,
        nargs="+",
        help="measure one provider with this number of queues, instead of --providers",
    )
    options = parser.parse_args()
    print("| providers | queues | worker, of a core | Redis | wake-ups/s | commands/s, including scripts' |")
    print("| ---: | ---: | ---: | ---: | ---: | --- |")
    kinds = [(1, queues) for queues in options.queues or ()]
    if not kinds:
        pairs = [(providers, queues) for providers in options.providers for queues in (1, providers)]
        kinds = list(dict.fromkeys(pairs))
    with tempfile.TemporaryDirectory() as name, harness.redis_server(Path(name)) as redis:
        for providers, queues in kinds:
            profile = options.profile if (providers, queues) == kinds[-1] else None
            found = run(Path(name), redis, providers, queues, seconds=options.seconds, profile=profile)
            commands_text = ", ".join(f"{name} {calls:.1f}" for name, calls in found["commands"].items())
            print(
                f"| {providers} | {queues} | {found['worker']:.2%} | {found['redis']:.2%} "
                f"| {found['wakes']:.1f} | {commands_text} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
