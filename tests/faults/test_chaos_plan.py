"""A plan is a function of its seed, and makes sense."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.catalogue import KINDS, resource
from chaos.messages import FAILING_GROUPS, HEALTHY_GROUPS, MALFORMATIONS, MAX_SIZE, Kind, Push, element
from chaos.plan import Plan, make_plan
from relay.errors import MessageError
from relay.message import parse_bare, parse_envelope

URLS = dict.fromkeys(("fan", *HEALTHY_GROUPS, *FAILING_GROUPS), "http://127.0.0.1:1")
TOPOLOGIES = ("single", "sentinel", "cluster")

plans = st.builds(
    make_plan,
    st.integers(0, 1 << 32),
    st.integers(5, 600).map(float),
    st.integers(0, 300),
    st.sampled_from(TOPOLOGIES),
)


@settings(max_examples=40, deadline=None)
@given(plans)
def test_equal_seeds_give_equal_plans(plan: Plan) -> None:
    again = make_plan(plan.seed, plan.seconds, len(plan.pushes), plan.topology)
    assert again == plan
    assert str(again) == str(plan)


def test_another_seed_gives_another_plan() -> None:
    one, other = (make_plan(seed, 60, 100, "single") for seed in (1, 2))
    assert one.digest() != other.digest()


@settings(max_examples=40, deadline=None)
@given(plans)
def test_no_two_faults_hit_the_same_thing_at_once(plan: Plan) -> None:
    until: dict[str, float] = {}
    for fault in plan.faults:
        assert plan.topology in KINDS[fault.name].topologies
        assert fault.target in KINDS[fault.name].targets
        hit = resource(fault.name, fault.target)
        assert until.get(hit, 0.0) <= fault.at
        until[hit] = fault.at + fault.seconds
        assert fault.at < plan.seconds


@settings(max_examples=40, deadline=None)
@given(plans)
def test_pushes_come_in_the_order_of_their_numbers_and_keys_stay_with_one_queue(plan: Plan) -> None:
    assert [push.number for push in plan.pushes] == list(range(len(plan.pushes)))
    assert [push.at for push in plan.pushes] == sorted(push.at for push in plan.pushes)
    homes: dict[str, set[tuple[str, str]]] = {}
    for push in plan.pushes:
        if push.ordering_key:
            homes.setdefault(push.ordering_key, set()).add((push.queue, push.provider))
    assert all(len(found) == 1 for found in homes.values())


def test_the_long_run_has_every_kind_of_message_and_of_fault_that_its_redis_can_have() -> None:
    for topology in TOPOLOGIES:
        plan = make_plan(1, 600, 5000, topology)
        assert {push.kind for push in plan.pushes} == set(Kind)
        possible = {kind.name for kind in KINDS.values() if topology in kind.topologies}
        assert {fault.name for fault in plan.faults} == possible
        assert len(plan.faults) >= 50


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.MALFORMED])
def test_each_kind_of_message_is_one(kind: Kind) -> None:
    plan = make_plan(1, 60, 2000, "single")
    for push in [push for push in plan.pushes if push.kind is kind]:
        pushed = element(push, URLS)
        if kind is Kind.BARE:
            assert json.loads(parse_bare(pushed, "hits", 1.0).payload_json)["n"] == push.number
            continue
        provider, message = parse_envelope(pushed, push.queue, 1.0)
        assert provider == push.provider
        assert (message.id if message.named else "") == push.id
        assert b'"n":%d' % push.number in message.payload_json


@pytest.mark.parametrize("malformation", MALFORMATIONS)
def test_each_malformed_message_is_refused_and_carries_its_mark(malformation: str) -> None:
    raw = element(Push(17, 0.0, Kind.MALFORMED, "hook", malformation=malformation), URLS)
    assert b'"#17#"' in raw
    if malformation == "oversized":
        assert len(raw) > MAX_SIZE
    elif malformation == "unknown provider":
        assert parse_envelope(raw, "notifications", 1.0)[0] == "nobody"
    else:
        with pytest.raises(MessageError):
            parse_envelope(raw, "notifications", 1.0)
