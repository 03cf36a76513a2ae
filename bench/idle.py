"""What a worker costs that has nothing to do: `python -m bench.idle [--seconds N] [--providers N …]`.

CPU of one worker process, all of its threads, and of Redis, as a share of one core; the commands that it
sends to Redis; how often it wakes up. With one queue, and with one for each provider. `--profile FILE`
records with py-spy what the last one does, as a flame graph; that run costs more.
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

from bench import stage

SETTLE = 5.0
"""Seconds from the start after which a worker is at rest."""

PY_SPY = str(Path(sys.executable).parent / "py-spy")


def switches(pid: int) -> int:
    """How often the process has gone to sleep of its own accord."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def commands(redis: Redis) -> Counter[str]:
    """Commands since the start of Redis, those within scripts too."""
    stats: Mapping[str, Mapping[str, int]] = redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()})


def redis_cpu(redis: Redis) -> float:
    usage: Mapping[str, float] = redis.info("cpu")
    return usage["used_cpu_user"] + usage["used_cpu_sys"]


def run(
    folder: Path, redis: Redis, providers: int, *, each_queue: bool, seconds: float, profile: Path | None
) -> dict[str, Any]:
    """One worker at rest."""
    redis.flushall()
    named = {f"p{index}": stage.webhook(9) for index in range(providers)}
    queues = None if each_queue else {"notifications": "p0"}
    with stage.workers(folder, redis, named, queues=queues) as (pid,):
        time.sleep(SETTLE)
        sent, asleep = commands(redis), switches(pid)
        used, of_redis = stage.cpu(pid), redis_cpu(redis)
        started = time.monotonic()
        if profile is not None:
            words = ["record", "--pid", str(pid), "--rate", "500", "--duration", str(int(seconds))]
            subprocess.run([PY_SPY, *words, "--output", str(profile)], check=True)
        else:
            time.sleep(seconds)
        took = time.monotonic() - started
        scripts = commands(redis) - sent
        return {
            "worker": (stage.cpu(pid) - used) / took,
            "redis": (redis_cpu(redis) - of_redis) / took,
            "wakes": (switches(pid) - asleep) / took,
            "commands": {name: calls / took for name, calls in scripts.most_common(12)},
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--providers", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--profile", type=Path, help="an SVG file for a flame graph of the last run")
    options = parser.parse_args()
    print(
        "| providers | queues | worker, of a core | Redis | wake-ups/s | commands/s, those of scripts too |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | --- |")
    kinds = [(providers, each) for providers in options.providers for each in (False, True)]
    kinds = [(providers, each) for providers, each in kinds if providers > 1 or not each]
    with tempfile.TemporaryDirectory() as name, stage.redis_server(Path(name)) as redis:
        for providers, each in kinds:
            profile = options.profile if (providers, each) == kinds[-1] else None
            found = run(
                Path(name), redis, providers, each_queue=each, seconds=options.seconds, profile=profile
            )
            told = ", ".join(f"{name} {calls:.1f}" for name, calls in found["commands"].items())
            print(
                f"| {providers} | {providers if each else 1} | {found['worker']:.2%} | {found['redis']:.2%} "
                f"| {found['wakes']:.1f} | {told} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
