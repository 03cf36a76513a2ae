"""The same bytes as those of the official emitter (npm `@socket.io/redis-emitter`)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers._shared.redis_payload import RESERVED_EVENTS
from providers.redis_ import RedisOptions, RedisPublisher
from relay.message import parse_bare
from testing.node_packages import node_packages

SCRIPT = """
import { createInterface } from "node:readline";
import { Emitter } from "@socket.io/redis-emitter";
const publish = (channel, content) => console.log(JSON.stringify([channel, content.toString("hex")]));
for await (const line of createInterface({ input: process.stdin })) {
  const { key, namespace, rooms, except, flags, event, args } = JSON.parse(line);
  let emitter = new Emitter({ publish }, key === null ? {} : { key });
  if (namespace !== null) emitter = emitter.of(namespace);
  let operator = emitter.to(rooms).except(except);
  for (const [name, value] of Object.entries(flags))
    operator = name === "volatile" ? operator.volatile : operator.compress(value);
  operator.emit(event, ...args);
}
"""

Emit = Callable[[dict[str, Any]], tuple[str, bytes]]

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
# JavaScript sorts keys that look like array indices, which changes nothing but the bytes.
KEYS = st.text(st.characters(codec="utf-8", categories=["L", "P", "Zs"]), max_size=20)
LARGEST = 2**53
FLOATS = st.floats(-(2.0**63), 2.0**64, exclude_max=True, allow_nan=False)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | FLOATS
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner, max_size=20),
    max_leaves=30,
)
CASES = st.fixed_dictionaries(
    {
        "key": st.none() | NAMES,
        "namespace": st.none() | NAMES,
        "rooms": st.lists(NAMES, max_size=3),
        "except": st.lists(NAMES, max_size=3),
        "flags": st.sampled_from(
            [{}, {"volatile": True}, {"compress": False}, {"compress": True, "volatile": True}]
        ),
        "event": NAMES.filter(lambda name: name not in RESERVED_EVENTS),
        "args": st.lists(VALUES, max_size=3),
    }
)
PLAIN: dict[str, Any] = {
    **{"key": None, "namespace": None, "rooms": [], "except": []},
    **{"flags": {}, "event": "hit", "args": []},
}


@pytest.fixture(scope="module")
def emit() -> Iterator[Emit]:
    """The official emitter, with its published texts and their channels."""
    process = subprocess.Popen(
        ["node", "--input-type=module", "-e", SCRIPT],
        cwd=node_packages(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def published(case: dict[str, Any]) -> tuple[str, bytes]:
        stdin.write(json.dumps(case) + "\n")
        stdin.flush()
        channel, content = json.loads(stdout.readline())
        return channel, bytes.fromhex(content)

    with process:
        yield published
        stdin.close()


@given(case=CASES)
@example(case=PLAIN)
@example(case=PLAIN | {"rooms": ["one"], "args": [{"n": 1.0, "z": -0.0, "big": 1e19, "small": -1e18}]})
@example(case=PLAIN | {"rooms": ["one", "one"], "except": ["a", "a"], "namespace": "chat"})
@example(case=PLAIN | {"args": ["é" * 20, "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 70_000]})
@example(case=PLAIN | {"args": [[0] * 15, [0] * 16, [0] * 70_000, {f"k{n}": n for n in range(16)}]})
@example(case=PLAIN | {"args": [[s * (2**p + d) for p in range(53) for d in (-1, 0, 1) for s in (1, -1)]]})
@settings(max_examples=150, deadline=None)
def test_the_same_bytes_as_the_official_emitter(emit: Emit, case: dict[str, Any]) -> None:
    prefix = {} if case["key"] is None else {"prefix": case["key"]}
    publisher = RedisPublisher("live", RedisOptions(type="redis", socketio=True, **prefix))
    payload = {name: value for name, value in case.items() if name != "key"}
    (command,) = publisher.transaction(parse_bare(json.dumps(payload).encode(), "q", 0.0)).commands
    assert command == ("PUBLISH", *emit(case))
