"""Every kind of mistake, with the exact line that an operator gets to see."""
# ruff: noqa: E501 (a line of the error is one line here too)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.settings.load import load
from relay.settings.options import ProviderOptions
from tests.unit.settings.conftest import Problems

# One provider in lines 4 to 9; %s are further options at line 10, column 5.
HEAD = """\
queues:
  - {name: notifications, provider: pusher}
providers:
  pusher:
    type: pusher
    app_id: "1"
    key: abc
    secret: hunter2
    order: fifo
"""
DURATION = "is not a duration; write seconds or a text such as 10s, 500ms or 1h30m"
ROOT_KEYS = "redis, queues, providers, admin, alerts, processes, shutdown_timeout, log, telemetry"

OPTIONS = {
    "rate: 100/x": '10:11: providers.pusher.rate: "100/x" is not a rate; write 100/s, 600000/m or a list of them',
    "rate: [1/s, 5]": "10:17: providers.pusher.rate[1]: 5 is not a rate; write 100/s, 600000/m or a list of them",
    "burst: abc": '10:12: providers.pusher.burst: expected a whole number, got "abc"',
    'burst: "20"': '10:12: providers.pusher.burst: expected a whole number, got "20"; write it without quotes',
    "burst: 0": "10:12: providers.pusher.burst: expected at least 1, got 0",
    "burst: 1.5": "10:12: providers.pusher.burst: expected a whole number, got 1.5",
    "burst: true": "10:12: providers.pusher.burst: expected a whole number, got true",
    "burst: []": "10:12: providers.pusher.burst: expected a whole number, got a list",
    "max_data: abc": '10:15: providers.pusher.max_data: expected a whole number, got "abc"',
    "concurrency: 10001": "10:18: providers.pusher.concurrency: expected at most 10000, got 10001",
    "timeout: 0": "10:14: providers.pusher.timeout: expected more than 0, got 0",
    "timeout: -1s": f'10:14: providers.pusher.timeout: "-1s" {DURATION}',
    "warmup: {a: 1}": f"10:13: providers.pusher.warmup: a mapping {DURATION}",
    "retry: 5": "10:12: providers.pusher.retry: expected a mapping of `key: value`, got 5",
    "retry: {attempts: 0}": "10:23: providers.pusher.retry.attempts: expected at least 1, got 0",
    "retry: {max: soon}": f'10:18: providers.pusher.retry.max: "soon" {DURATION}',
    "retry: {maximum: 1}": "10:13: providers.pusher.retry.maximum: unknown key; did you mean `max`?",
    "breaker:": "10:13: providers.pusher.breaker: expected a mapping of `key: value`, got nothing",
    "adaptive: perhaps": '10:15: providers.pusher.adaptive: expected true or false, got "perhaps"',
    "overflow: drop": '10:15: providers.pusher.overflow: expected drop_oldest or drop_newest, got "drop"',
    "cluster: {eu: 1}": "10:14: providers.pusher.cluster: expected text, got a mapping",
    "cluster:": "10:13: providers.pusher.cluster: expected text, got nothing",
    "concurency: 5": "10:5: providers.pusher.concurency: unknown key; did you mean `concurrency`?",
    "max-data: 5": "10:5: providers.pusher.max-data: unknown key; did you mean `max_data`?",
    "secret_fil: x": "10:5: providers.pusher.secret_fil: unknown key; did you mean `secret_file`?",
    "key: again": "10:5: providers.pusher.key: the key appears twice (first in line 7); remove one",
    "secret_file: x": "10:5: providers.pusher.secret_file: `secret` and `secret_file` are both set; keep one",
    "event: ${NAME}": "10:12: providers.pusher.event: "
    "the environment variable NAME is not set; set it or write ${NAME:-default}",
    "event: '${1}'": "10:12: providers.pusher.event: "
    "`${` must be followed by a name and `}`; write ${NAME}, ${NAME:-default}, or $${ for ${",
    "event: !!python/object:os.system x": "10:12: providers.pusher.event: "
    "the tag !!python/object:os.system is not allowed; quote a text that begins with `!`",
    "event: !hit x": "10:12: providers.pusher.event: a tag (`!…`) is not allowed; quote a text that begins with `!`",
    "burst: !!int x": "10:12: providers.pusher.burst: does not match its tag; remove !!int",
    "? [a]\n    : 1": "10:7: providers.pusher: a key must be text, not a list or a mapping",
    "<<: 1": "10:9: providers.pusher: `<<` merges mappings only: write `<<: *anchor` of one",
}


@pytest.mark.parametrize(("option", "line"), OPTIONS.items())
def test_a_wrong_option_of_a_provider(problems: Problems, option: str, line: str) -> None:
    assert problems(f"{HEAD}    {option}\n") == [f"relay.yaml:{line}"]


TOP = {
    "redis: {url: 'http://u:hunter2@h'}": '10:14: redis.url: has the unknown scheme "http"; allowed are redis, '
    "rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster or embedded",
    "redis: {url: 'reddis://h'}": '10:14: redis.url: has the unknown scheme "reddis"; did you mean `redis`? allowed '
    "are redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster or embedded",
    "redis: {url: localhost}": "10:14: redis.url: is not a URL; write one such as redis://host:6379/0",
    "redis: {url: 'redis+sentinel://h:1'}": "10:14: redis.url: is not complete or not well-formed; "
    "write it as redis+sentinel://h1:26379,h2:26379/NAME/0",
    "redis: {url: 'embedded://d?port=0'}": "10:14: redis.url: port: write a number from 1 to 65535",
    "redis: {url: 'embedded://d?db=1'}": "10:14: redis.url: unknown option; allowed is port, "
    "as in embedded://./data?port=6380",
    "redis: {url: 'embedded://?port=1'}": "10:14: redis.url: is not complete or not well-formed; "
    "write it as embedded://DIR or embedded://DIR?port=6380",
    "redis: {prefix: 'a{b}'}": '10:17: redis.prefix: "a{b}" must not be empty, '
    "and must not contain spaces or braces",
    "redis: redis://h": '10:8: redis: expected a mapping of `key: value`, got "redis://h"',
    "admin: {listen: 0.0.0.0:9464}": '10:17: admin.listen: "0.0.0.0:9464" can be reached from other hosts: '
    "set `token` (or `token_file`), or 127.0.0.1",
    "admin: {listen: 9464}": "10:17: admin.listen: 9464 is not host:port; "
    "write 127.0.0.1:9464, [::1]:9464, or nothing for off",
    "processes: 0": "10:12: processes: expected a whole number of at least 1, or auto; got 0",
    "processes: many": '10:12: processes: expected a whole number of at least 1, or auto; got "many"',
    "shutdown_timeout: later": f'10:19: shutdown_timeout: "later" {DURATION}',
    "log: {level: warn}": "10:14: log.level: expected debug, info, warning or error, "
    'got "warn"; did you mean `warning`?',
    "log: {format: xml}": '10:15: log.format: expected auto, console or json, got "xml"',
    "logs: {}": "10:1: logs: unknown key; did you mean `log`?",
    "whatever: 1": f"10:1: whatever: unknown key; allowed here: {ROOT_KEYS}",
    "path: x": f"10:1: path: unknown key; allowed here: {ROOT_KEYS}",
}


@pytest.mark.parametrize(("section", "line"), TOP.items())
def test_a_wrong_section(problems: Problems, section: str, line: str) -> None:
    assert problems(f"{HEAD}{section}\n") == [f"relay.yaml:{line}"]


PROVIDERS = "providers: {hooks: {type: webhook}}\n"
QUEUES = {
    "- {name: a, provider: hoks}": '3:23: queues[0].provider: no provider is named "hoks"; did you mean `hooks`?',
    "- {name: a, provider: x}": '3:23: queues[0].provider: no provider is named "x"; there is hooks',
    "- {name: a, format: bare}": "3:3: queues[0]: the key `provider` is missing: "
    "a bare message cannot name its provider, so the queue must",
    "- {name: a}\n- {name: a}": '4:10: queues[1].name: the queue "a" appears twice (first in line 3); remove one',
    "- {name: ''}": "3:10: queues[0].name: must not be empty",
    "- {}": "3:3: queues[0]: the key `name` is missing: Key of the list in Redis.",
    "- notifications": '3:3: queues[0]: expected a mapping of `key: value`, got "notifications"',
    "- {name: a, format: raw}": '3:21: queues[0].format: expected envelope or bare, got "raw"',
    "- {name: a, max_size: 1XB}": '3:23: queues[0].max_size: "1XB" is not a size; '
    "write bytes or a text such as 256KiB or 1MB",
    "- {name: a, max_size: 0}": "3:23: queues[0].max_size: expected at least 1, got 0",
    " []": "3:2: queues: must not be empty",
    " {name: a}": "3:2: queues: expected a list, got a mapping",
}


@pytest.mark.parametrize(("queues", "line"), QUEUES.items())
def test_a_wrong_queue(problems: Problems, queues: str, line: str) -> None:
    assert problems(f"{PROVIDERS}queues:\n{queues}\n") == [f"relay.yaml:{line}"]


KINDS = {
    "{hooks: {type: webhok}}": '2:27: providers.hooks.type: there is no adapter "webhok"; '
    "did you mean `webhook`? available: pusher, webhook",
    "{hooks: {type: 5}}": '2:27: providers.hooks.type: there is no adapter "5"; available: pusher, webhook',
    "{hooks: {}}": "2:20: providers.hooks: the key `type` is missing; write pusher or webhook",
    "{hooks: }": "2:19: providers.hooks: expected a mapping with `type`, got nothing",
    "{my hooks: {type: webhook}}": '2:13: providers["my hooks"]: is not a valid name of a provider; '
    "use 1 to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit",
    "{hooks: {type: webhook, allow_private: 5}}": "2:51: providers.hooks.allow_private: "
    "expected true or false, or a list, got 5",
    "{hooks: {type: webhook, allow_private: [10.0.0.0/8, x]}}": "2:64: providers.hooks.allow_private[1]: "
    'expected an IPv4 network such as 10.0.0.0/8, or an IPv6 network such as fd00::/8, got "x"',
    "{}": "2:12: providers: must not be empty",
    "[]": "2:12: providers: expected a mapping of `key: value`, got a list",
}


@pytest.mark.parametrize(("providers", "line"), KINDS.items())
def test_a_wrong_provider(problems: Problems, providers: str, line: str) -> None:
    assert problems(f"queues: [{{name: a}}]\nproviders: {providers}\n") == [f"relay.yaml:{line}"]


DOCUMENTS = {
    "": "1:1: the file is empty; `relay init --all` shows every key",
    "# only this\n": "1:1: the file is empty; `relay init --all` shows every key",
    "~": "1:1: the file is empty; expected a mapping with `queues` and `providers`",
    "- a": "1:1: the file is a list; expected a mapping with `queues` and `providers`",
    "just text": "1:1: the file is one value; expected a mapping with `queues` and `providers`",
    "a: [b\nc: d": "2:2: not valid YAML: expected ',' or ']', but got ':'",
    "a:\n\t- b": "2:1: not valid YAML: a tab cannot indent; use spaces",
    "a: b: c": "1:5: not valid YAML: a `:` is misplaced; check the indentation, or quote the text",
    "a: 1\nb\nc: 2": "3:1: not valid YAML: a key without `:`; check the indentation, or quote the text",
    "a: *b": "1:4: not valid YAML: `*` names an anchor that is not there; quote a text that begins with `*`",
    "a: &x 1\nb: &x 2": "2:4: not valid YAML: the same anchor is set twice; quote a text that begins with `&`",
    "a: !x!y z": "1:4: not valid YAML: tags (`!…`) are not allowed; quote a text that begins with `!`",
    'a: "\\UFFFFFFFF"': "1:7: not valid YAML: an escape that is not a character",
    "a: 1\nb: \x07": '2:4: the character "\\u0007" is not allowed in YAML',
    "a: 1\n---\nb: 1": "2:1: not valid YAML: only one document is allowed; remove `---`",
    "[" * 500: "1:51: nested deeper than 50 levels (is an alias inside its own anchor?)",
    "a: &a [*a]": "1:4: nested deeper than 50 levels (is an alias inside its own anchor?)",
    "x" * 1024 * 1025: "1:1: the file is larger than 1024 KiB",
}


@pytest.mark.parametrize(("text", "line"), DOCUMENTS.items(), ids=range(len(DOCUMENTS)))
def test_a_wrong_document_is_refused_with_its_position(problems: Problems, text: str, line: str) -> None:
    assert problems(text) == [f"relay.yaml:{line}"]


def test_a_bomb_of_aliases_is_refused(problems: Problems) -> None:
    levels = ["&a0 [1]"] + [f"&a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
    assert problems(f"x: [{', '.join(levels)}]") == [
        "relay.yaml:1:5: more than 100000 values, including those that aliases repeat"
    ]


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['echo owned']",
        "!!python/name:os.system",
        "!!python/object:os.x {a: 1}",
    ],
)
def test_a_tag_that_would_create_objects_is_refused(problems: Problems, value: str) -> None:
    tag = value.split(maxsplit=1)[0]
    (line,) = [line for line in problems(f"log: {value}\n") if "tag" in line]
    assert line == f"relay.yaml:1:6: log: the tag {tag} is not allowed; quote a text that begins with `!`"


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    text = """\
redis: {prefix: "a b"}
queues:
  - {name: a, provider: pushr}
providers:
  pusher:
    type: pusher
    rate: 100/x
    key: ${KEY}
  hooks: {type: webhok, timeout: x}
log: {level: loud}
"""
    assert [line.partition(": ")[0] for line in problems(text)] == [
        "relay.yaml:1:17",  # redis.prefix
        "relay.yaml:3:25",  # queues[0].provider
        "relay.yaml:6:5",  # providers.pusher: app_id is missing
        "relay.yaml:6:5",  # providers.pusher: secret is missing
        "relay.yaml:7:11",  # providers.pusher.rate
        "relay.yaml:8:10",  # providers.pusher.key
        "relay.yaml:9:17",  # providers.hooks.type
        "relay.yaml:9:34",  # providers.hooks.timeout
        "relay.yaml:10:14",  # log.level
    ]


def test_a_missing_secret_names_both_ways_to_give_it(problems: Problems) -> None:
    text = "queues: [{name: a}]\nproviders:\n  p: {type: pusher, app_id: a, key: b}\n"
    assert problems(text) == [
        "relay.yaml:3:6: providers.p: the key `secret` or `secret_file` is missing: Signs every request."
    ]


def test_queues_and_providers_are_required(problems: Problems) -> None:
    assert problems("log: {}") == [
        "relay.yaml:1:1: the key `providers` is missing: "
        "The providers that messages go to, under names of your choice. `type` selects the adapter.",
        "relay.yaml:1:1: the key `queues` is missing: The Redis lists that applications push to.",
    ]


def test_a_problem_that_an_alias_repeats_is_reported_once(problems: Problems) -> None:
    text = "queues: [{name: a}]\nproviders:\n  a: &a {type: webhook, timeout: x}\n  b: *a\n  c: {<<: *a}\n"
    assert problems(text) == [f'relay.yaml:3:34: providers.a.timeout: "x" {DURATION}']


def test_a_message_is_one_line_of_printable_text(problems: Problems) -> None:
    text = f'{HEAD}    rate: "a\\n\\e[31m{"b" * 200}"\n'
    (line,) = problems(text)
    assert line.isprintable()
    assert len(line) < 220


def missing(tmp_path: Path) -> Path:
    return tmp_path / "relay.yaml"


def not_utf8(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_bytes(b"queues: []\nx: \xff\n")
    return path


def too_large(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    return path


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (missing, ": there is no such file; `relay init` writes one to start from"),
        (Path, ": cannot be read: Is a directory"),
        (not_utf8, ":2:4: the file is not UTF-8; save it as UTF-8"),
        (too_large, ":1:1: the file is larger than 1024 KiB"),
    ],
)
def test_a_file_that_cannot_be_read(
    tmp_path: Path, adapters: dict[str, type[ProviderOptions]], make: Callable[[Path], Path], line: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(path, adapters, {})
    assert caught.value.problems == (f"{path}{line}",)


def test_a_queue_admits_configured_providers_only(problems: Problems) -> None:
    text = (
        "queues: [{name: a, provider: hooks, providers: [hooks, hoks]}, {name: b, providers: other}, "
        '{name: c, providers: "*"}]\nproviders: {hooks: {type: webhook}}\n'
    )
    assert problems(text) == [
        'relay.yaml:1:56: queues[0].providers[1]: no provider is named "hoks"; did you mean `hooks`?',
        'relay.yaml:1:85: queues[1].providers: no provider is named "other"; there is hooks',
    ]
