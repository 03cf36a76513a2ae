"""Pushes messages to each system as its own client would write them, many per round trip."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from redis import Redis

PEERS = Path(__file__).parent / "peers"


class Producer(Protocol):
    def push(self, elements: Sequence[str]) -> None:
        """Push these elements in order."""

    def close(self) -> None: ...


class _Direct:
    """A system that needs only a Redis client."""

    def __init__(self, redis: Redis, steady: bool) -> None:
        self.redis = redis

    def close(self) -> None:
        pass


class Lists(_Direct):
    """RPUSH, as applications do for relay and for the plain loops."""

    def __init__(self, redis: Redis, steady: bool, queues: int = 1) -> None:
        """With several queues, elements go to them in turn."""
        super().__init__(redis, steady)
        self.names = queue_names(queues)

    def push(self, elements: Sequence[str]) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for start, name in enumerate(self.names):
                if mine := elements[start :: len(self.names)]:
                    pipe.rpush(name, *mine)
            pipe.execute()


def queue_names(count: int) -> list[str]:
    """Return the names of this number of queues."""
    return ["bench", *(f"bench-{number}" for number in range(1, count))]


class Sidekiq(_Direct):
    """Source: https://github.com/sidekiq/sidekiq/wiki/Job-Format"""

    def push(self, elements: Sequence[str]) -> None:
        self.redis.lpush("queue:default", *map(self._job, elements))

    def _job(self, element: str) -> str:
        now = time.time()
        job = {"class": "Push", "queue": "default", "retry": True, "jid": uuid.uuid4().hex[:24]}
        return json.dumps({**job, "args": [json.loads(element)], "created_at": now, "enqueued_at": now})


class Celery(_Direct):
    """Source: https://docs.celeryq.dev/en/stable/internals/protocol.html, as Kombu puts it into Redis."""

    def push(self, elements: Sequence[str]) -> None:
        self.redis.lpush("celery", *map(self._task, elements))

    def _task(self, element: str) -> str:
        embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        body = json.dumps([[json.loads(element)], {}, embedded])
        task = str(uuid.uuid4())
        delivery = {"exchange": "", "routing_key": "celery"}
        return json.dumps(
            {
                "body": base64.b64encode(body.encode()).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {
                    **{"lang": "py", "task": "push", "id": task, "root_id": task, "parent_id": None},
                    **{"group": None, "retries": 0, "eta": None, "expires": None, "timelimit": [None, None]},
                    **{"argsrepr": "", "kwargsrepr": "", "origin": "bench", "ignore_result": True},
                },
                "properties": {
                    **{"correlation_id": task, "reply_to": "", "delivery_mode": 2, "priority": 0},
                    **{"delivery_info": delivery, "body_encoding": "base64"},
                    "delivery_tag": str(uuid.uuid4()),
                },
            }
        )


class Taskiq(_Direct):
    """Writes the same keys as ListQueueBroker.kick with the default serializer."""

    def push(self, elements: Sequence[str]) -> None:
        self.redis.lpush("taskiq", *map(self._task, elements))

    def _task(self, element: str) -> str:
        task = {"task_id": uuid.uuid4().hex, "task_name": "push", "labels": {}, "labels_types": {}}
        return json.dumps({**task, "args": [json.loads(element)], "kwargs": {}})


class Arq(_Direct):
    """Writes the same keys as ArqRedis.enqueue_job with the default serializer."""

    def push(self, elements: Sequence[str]) -> None:
        now = int(time.time() * 1000)
        scores: dict[str, float] = {}
        pipeline = self.redis.pipeline(transaction=False)
        for element in elements:
            job = uuid.uuid4().hex
            fields: dict[str, Any] = {"t": None, "f": "push", "a": (json.loads(element),), "k": {}, "et": now}
            pipeline.psetex(f"arq:job:{job}", 86_400_000, pickle.dumps(fields))
            scores[job] = now
        pipeline.zadd("arq:queue", scores)
        pipeline.execute()


class _Piped:
    """A system's own client, because its messages are added by scripts. At a steady rate, the client itself
    stamps the times."""

    command: tuple[str, ...]

    def __init__(self, redis: Redis, steady: bool) -> None:
        port = redis.connection_pool.connection_kwargs["port"]
        self._process = subprocess.Popen(
            [*self.command, *(["--steady"] if steady else [])],
            env={**os.environ, "BENCH_REDIS": f"redis://127.0.0.1:{port}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._steady = steady

    def push(self, elements: Sequence[str]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n".join(elements) + ("\n" if self._steady else "\n\n"))
        self._process.stdin.flush()
        if not self._steady:
            self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class BullMq(_Piped):
    command = "node", str(PEERS / "bullmq/push.mjs")


class Asynq(_Piped):
    command = str(PEERS / "asynq/asynq"), "push"
