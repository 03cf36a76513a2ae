"""Forwards the outbox to relay's queue: `DATABASE_URL=… REDIS_URL=… python forward.py`.

A row is deleted only after Redis has accepted its message. After a crash in between, the message is pushed
again under the same id, and relay recognises the duplicate. You may run two of these on two hosts: one works,
and the other waits to take over.
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
"""Maximum number of rows per transaction."""

POLL = 5.0
"""Seconds after which to poll, even without a notification."""

LOCK = 7_235_401
"""Any number that no other program uses. The holder of this advisory lock is the active forwarder."""

log = logging.getLogger("forward")


def with_id(message_id: str, message: str) -> str:
    """Return the message with its id. It is not parsed, because that could only change it or fail."""
    return f'{{"id": {json.dumps(message_id)}, {message.lstrip()[1:]}'


def forward_batch(db: psycopg.Connection, queue: redis.Redis) -> int:
    """Forward the oldest rows. Returns their number."""
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
    """Forward rows as they arrive, until PostgreSQL or Redis fails."""
    with (
        psycopg.connect(database_url, autocommit=True) as db,
        redis.Redis.from_url(redis_url, socket_timeout=10) as queue,
    ):
        # Only one forwarder at a time, so that rows leave in order. The lock ends with the connection.
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
    # The transaction is rolled back, and repeated after the reconnection.
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
