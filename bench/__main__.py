"""Runs the measurements: `python -m bench [--messages N] [--repeat N] [--json FILE]`.

One worker process, one Redis, one receiver, all on this machine. Figures are medians of the repeats;
they compare runs on the same machine, and say little about another one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import yaml
from redis import Redis

from tests.support.redis_server import RedisServer, binaries

RELAY = str(Path(sys.executable).parent / "relay")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SCENARIOS = ("webhook", "pusher")


def element(stamp: float = 0.0) -> str:
    """A payload of about 250 bytes."""
    document: dict[str, Any] = {"channel": "site-1", "hits": 3, "path": "/" + "x" * 190}
    if stamp:
        document["t"] = stamp
    return json.dumps(document)


def provider(scenario: str, port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}"
    if scenario == "webhook":
        return {"type": "webhook", "url": f"{url}/hook", "secret": SECRET}
    return {"type": "pusher", "app_id": "3", "key": "k", "secret": "s", "url": url, "event": "hit"}


class Bench:
    """The servers of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        version, binary = sorted(binaries().items())[-1]
        self.version = version
        self.server = RedisServer(binary, folder / "redis", "--appendonly", "no").start()
        self.redis = Redis(port=self.server.port)
        self.receiver = subprocess.Popen(
            [sys.executable, "-m", "bench.receiver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.receiver.stdout is not None
        self.port = int(self.receiver.stdout.readline())

    def close(self) -> None:
        assert self.receiver.stdin is not None
        self.receiver.stdin.close()
        self.receiver.wait()
        self.server.stop()

    def received(self) -> dict[str, Any]:
        assert self.receiver.stdin is not None
        assert self.receiver.stdout is not None
        self.receiver.stdin.write("\n")
        self.receiver.stdin.flush()
        counts: dict[str, Any] = json.loads(self.receiver.stdout.readline())
        return counts

    def config(self, scenario: str) -> Path:
        path = self.folder / f"{scenario}.yaml"
        document = {
            "redis": {"url": self.server.url},
            "queues": [{"name": "bench", "provider": scenario, "format": "bare"}],
            "providers": {scenario: provider(scenario, self.port)},
            "processes": 1,
            "admin": {"listen": ""},
            "log": {"level": "warning"},
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def redis_cpu(self) -> float:
        usage = self.redis.info("cpu")
        return float(usage["used_cpu_user"]) + float(usage["used_cpu_sys"])

    def backlog(self, scenario: str, messages: int) -> dict[str, float]:
        """Drain a backlog that lies there when the worker starts."""
        self.redis.flushall()
        for start in range(0, messages, 1000):
            self.redis.rpush("bench", *[element()] * min(1000, messages - start))
        self.received()
        redis_before = self.redis_cpu()
        worker = subprocess.Popen([RELAY, "run", "-c", str(self.config(scenario)), "--until-empty"])
        _, status, usage = os.wait4(worker.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        counts = self.received()
        start_up = self._start_up(scenario)
        return {
            "messages_per_second": messages / (counts["last"] - counts["first"]),
            "requests": counts["requests"],
            "worker_cpu_per_100k": (usage.ru_utime + usage.ru_stime - start_up) * 100_000 / messages,
            "redis_cpu_per_100k": (self.redis_cpu() - redis_before) * 100_000 / messages,
            "peak_mib": usage.ru_maxrss / 1024,
        }

    def _start_up(self, scenario: str) -> float:
        """CPU seconds of a worker that has nothing to do: not the messages' fault."""
        worker = subprocess.Popen([RELAY, "run", "-c", str(self.config(scenario)), "--until-empty"])
        _, _, usage = os.wait4(worker.pid, 0)
        return usage.ru_utime + usage.ru_stime

    def latency(self, scenario: str, per_second: int, seconds: float) -> dict[str, float]:
        """From RPUSH to receipt, at a steady rate."""
        self.redis.flushall()
        with self._running(scenario):
            self.redis.rpush("bench", *[element(time.time()) for _ in range(200)])
            self._ages(200)
            start = time.perf_counter()
            for number in range(int(per_second * seconds)):
                due = start + number / per_second
                while (left := due - time.perf_counter()) > 0:
                    time.sleep(left)
                self.redis.rpush("bench", element(time.time()))
            ages = self._ages(int(per_second * seconds))
        cuts = quantiles(ages, n=1000)
        return {"p50_ms": cuts[499] * 1000, "p99_ms": cuts[989] * 1000, "p999_ms": cuts[998] * 1000}

    def _ages(self, number: int) -> list[float]:
        """The ages of the next so many messages, in seconds."""
        ages: list[float] = []
        while len(ages) < number:
            ages += self.received()["ages"]
            time.sleep(0.05)
        return ages

    @contextmanager
    def _running(self, scenario: str) -> Any:
        worker = subprocess.Popen([RELAY, "run", "-c", str(self.config(scenario))])
        try:
            yield
        finally:
            worker.terminate()
            worker.wait()


def measure(messages: int, repeat: int) -> dict[str, dict[str, float]]:
    """The medians of all scenarios."""
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            for scenario in SCENARIOS:
                runs = [
                    {**bench.backlog(scenario, messages), **bench.latency(scenario, 500, 5)}
                    for _ in range(repeat)
                ]
                results[scenario] = {name: median(run[name] for run in runs) for name in runs[0]}
        finally:
            bench.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000, help="backlog of each run")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each scenario")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    results = measure(options.messages, options.repeat)
    names = list(next(iter(results.values())))
    print(f"{'':24}" + "".join(f"{scenario:>14}" for scenario in results))
    for name in names:
        print(f"{name:24}" + "".join(f"{results[scenario][name]:14,.1f}" for scenario in results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
