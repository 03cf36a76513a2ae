"""The application: `python app.py AUTHOR TEXT` writes a post and its message in one transaction."""

import json
import os
import sys

import psycopg


def write_post(db: psycopg.Connection, author: str, text: str) -> int:
    """Write a post and its message. The message is sent only if the transaction commits."""
    with db.transaction():
        (post,) = db.execute(
            "INSERT INTO posts (author, body) VALUES (%s, %s) RETURNING id", (author, text)
        ).fetchone()
        message = {
            "ordering_key": f"feed-{author}",
            "ttl": "1d",
            "payload": {"body": {"post": post, "text": text}},
        }
        db.execute("INSERT INTO relay_outbox (message) VALUES (%s)", (json.dumps(message),))
    return post


if __name__ == "__main__":
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        print("post", write_post(connection, sys.argv[1], sys.argv[2]))
