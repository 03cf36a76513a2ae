"""Celery's worker: `celery -A worker worker -P gevent`."""

from __future__ import annotations

import json
import os
from typing import Any

import requests
from celery import Celery
from requests.adapters import HTTPAdapter

CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
URL = os.environ["BENCH_URL"]

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
# "If you have lots of short tasks, … you want this number to be large. Say 64, or 128": here for all tasks.
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=8,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=CONCURRENCY))


@app.task(name="push")
def push(message: dict[str, Any]) -> None:
    name, body = ("hook", message) if "payload" not in message else (message["provider"], message["payload"])
    headers = {"content-type": "application/json"}
    session.post(f"{URL}/{name}", data=json.dumps(body), headers=headers, timeout=10).raise_for_status()
