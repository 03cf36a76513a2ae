"""Names of queues that would share keys, or whose keys a cluster would keep apart."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from relay.names import hashed_part, key_beside
from tests.unit.settings.conftest import Problems, Read

CONFIG = """\
redis: {{url: "{url}", prefix: {prefix}}}
queues:
  - {{name: "{first}", provider: pusher}}
  - {{name: "{second}", provider: pusher}}
providers:
  pusher: {{type: pusher, app_id: "1", key: abc, secret: hunter2}}
"""
SERVER, CLUSTER = "redis://h", "redis+cluster://h"


def config(second: str, *, first: str = "other", url: str = SERVER, prefix: str = "relay") -> str:
    return CONFIG.format(url=url, prefix=prefix, first=first, second=second)


@pytest.mark.parametrize(("first", "second"), [("q", "{q}"), ("{a.b}", "a.b")])
def test_two_queues_that_would_share_keys_are_refused(problems: Problems, first: str, second: str) -> None:
    assert problems(config(second, first=first)) == [
        f'relay.yaml:4:12: queues[1].name: the queue "{second}" has the same keys in Redis as the queue '
        f'"{first}" (line 3); rename one'
    ]


@pytest.mark.parametrize(
    "name", ["relay", "relay:wake", "relay:feedback", "relay:{pusher}:outbox", "relay:{q}:staged"]
)
def test_a_queue_that_is_one_of_relays_own_keys_is_refused(problems: Problems, read: Read, name: str) -> None:
    (problem,) = problems(config(name))
    assert problem.startswith(f'relay.yaml:4:12: queues[1].name: "{name}" is one of relay\'s own keys')
    assert read(config(name, prefix="mine")).queues[1].name == name


@pytest.mark.parametrize("name", ["a{b", "}{", "{}", "{}{a}", "a}b", "{", "}"])
def test_braces_that_are_no_hash_tag_are_refused_in_a_cluster_alone(
    problems: Problems, read: Read, name: str
) -> None:
    (problem,) = problems(config(name, url=CLUSTER))
    assert problem.startswith(f'relay.yaml:4:12: queues[1].name: "{name}" has braces that are not a hash tag')
    assert read(config(name)).queues[1].name == name


@pytest.mark.parametrize("name", ["plain", "{tag}", "a{tag}b", "{a}{b}", "{a}}", "{{a}"])
def test_a_queue_and_relays_keys_for_it_share_a_slot(read: Read, name: str) -> None:
    assert read(config(name, url=CLUSTER)).queues[1].name == name
    assert key_slot(key_beside("relay", name, "staged").encode()) == key_slot(name.encode())


@pytest.mark.parametrize("name", ["a{b", "}{", "{}", "{}{a}", "{a}", "x{a}{b}", "{{a}}", "a}b{c}"])
def test_the_hashed_part_is_that_of_redis(name: str) -> None:
    assert key_slot(hashed_part(name).encode()) == key_slot(name.encode())
