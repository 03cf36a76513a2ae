"""New configurations, made of the parts of the example."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UsageError
from relay.settings.example import Kind, read_example, starter, types_in
from relay.settings.redis_url import FORMS

EXAMPLE = read_example()
TYPES = types_in(EXAMPLE)
URLS = st.one_of(
    st.none(),
    st.builds("{}://{}/0".format, st.sampled_from(sorted(FORMS)), st.text("aZ0.-:,_#'$ ", min_size=1)),
)


def a_kind(name: str) -> Kind:
    keys = set(re.findall(r"^ +(?:# )?([a-z_]+): ", EXAMPLE, re.MULTILINE))
    return Kind(keys, {"url"} if name == "http" else set())


@given(st.lists(st.sampled_from(TYPES), min_size=1, unique=True), URLS)
def test_a_new_file_has_the_chosen_providers_and_a_queue_for_them(types: list[str], url: str | None) -> None:
    found = yaml.safe_load(starter(EXAMPLE, {name: a_kind(name) for name in types}, url))
    assert found["redis"] == {"url": url or "redis://127.0.0.1:6379/0"}
    (queue,) = found["queues"]
    assert (queue["name"], queue["provider"]) == ("notifications", types[0])
    assert queue.get("providers", types) == types
    assert list(found["providers"]) == types
    for name, options in found["providers"].items():
        assert (options["type"], options["rate"]) == (name, "100/s")


@pytest.mark.parametrize("name", TYPES)
def test_each_line_of_a_new_file_comes_from_the_example(name: str) -> None:
    def words(text: str) -> set[str]:
        return {re.sub(r"[# ]+", " ", line).strip() for line in text.splitlines()}

    new = words(starter(EXAMPLE, {name: a_kind(name)}).partition("\nredis:")[2])
    changed = {line for line in new - words(EXAMPLE) if not line.startswith(("rate: 100/s", "provider: "))}
    assert changed <= {"Connections:", f"{name}:", f"type: {name}"}


def test_a_type_without_an_example_is_refused_with_the_types_that_have_one() -> None:
    with pytest.raises(UsageError, match=r"no example of the provider type 'chat'; .*pusher, webhook"):
        starter(EXAMPLE, {"chat": Kind(set(), set())})
