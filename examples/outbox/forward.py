"""Carries the outbox to relay's queue: `DATABASE_URL=… REDIS_URL=… python forward.py`.

A row is deleted only after Redis has taken its message. A crash in between pushes the message again, under
the same id, and relay takes it for what it is: a duplicate. Run two of these on two hosts: one works, the
other one waits for its turn.
"""

import json
import logging
import os
import signal
import sys
import time

import psycopg
import redis

BATCH = 500
"""Rows that one transaction carries."""

POLL = 5.0
"""Seconds after which to look even if nobody told us to."""

LOCK = 7_235_401
"""Any number that nobody else uses: who holds this advisory lock is the one that forwards."""

log = logging.getLogger("forward")


def with_id(message_id: str, message: str) -> str:
    """The message under its id, otherwise as it was written: to parse it could only change it, or fail."""
    return f'{{"id": {json.dumps(message_id)}, {message.lstrip()[1:]}'


def forward_batch(db: psycopg.Connection, queue: redis.Redis) -> int:
    """Carry the oldest rows; how many."""
    with db.transaction():
        rows = db.execute(
            "SELECT id, queue, message_id, message::text FROM relay_outbox ORDER BY id LIMIT %s", (BATCH,)
        ).fetchall()
        if not rows:
            return 0
        with queue.pipeline(transaction=True) as pipe:
            for _, name, message_id, message in rows:
                pipe.rpush(name, with_id(message_id, message))
            pipe.execute()
        db.execute("DELETE FROM relay_outbox WHERE id = ANY(%s)", ([row for row, *_ in rows],))
    return len(rows)


def forward_forever(database_url: str, redis_url: str) -> None:
    """Carry rows as they come, until PostgreSQL or Redis fails."""
    with (
        psycopg.connect(database_url, autocommit=True) as db,
        redis.Redis.from_url(redis_url, socket_timeout=10) as queue,
    ):
        # One at a time, so that rows leave in their order. The lock goes with the connection.
        db.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        db.execute("LISTEN relay_outbox")
        log.info("forwarding")
        while True:
            while forward_batch(db, queue):
                pass
            for _ in db.notifies(timeout=POLL, stop_after=1):
                pass


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Whatever was under way is rolled back, and done again by the next one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    while True:
        try:
            forward_forever(os.environ["DATABASE_URL"], os.environ["REDIS_URL"])
        except (psycopg.OperationalError, redis.RedisError) as error:
            log.warning("trying again in a second: %s", " ".join(str(error).split()))
            time.sleep(1)


if __name__ == "__main__":
    main()
