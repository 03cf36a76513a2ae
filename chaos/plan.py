"""Turn a seed into a plan. Pure: equal seeds give equal plans."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.catalogue import KINDS, FaultKind, Planned, resource
from chaos.messages import Push, generate

PRODUCING = 0.9
"""Share of the time in which messages are pushed and faults start. In the rest, faults end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The pushes and faults of a run, both ordered by time."""

    seed: int
    seconds: float
    topology: str
    pushes: Sequence[Push]
    faults: Sequence[Planned]

    def digest(self) -> str:
        """Return a digest that is equal for equal plans."""
        return hashlib.sha256(repr((self.pushes, self.faults)).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        kinds = Counter(push.kind.value for push in self.pushes)
        return "\n".join(
            [
                f"seed {self.seed}, {self.seconds:g} s, {self.topology}, digest {self.digest()}",
                f"{len(self.pushes)} messages: "
                + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()),
                f"{len(self.faults)} faults:",
                *map(str, self.faults),
            ]
        )


def make_plan(seed: int, seconds: float, messages: int, topology: str, faults: int | None = None) -> Plan:
    """Make a plan with `faults` faults. Default: one per 1.2 s in short runs, one per 6 s in long ones."""
    rng = random.Random(f"{seed}/{seconds}/{messages}/{topology}")
    producing = seconds * PRODUCING
    number = faults if faults is not None else round(min(producing / 1.2, 20 + producing / 6))
    pushes = generate(rng, messages, producing)
    planned = [*_failing_groups(producing), *_schedule(rng, topology, seconds, number)]
    return Plan(seed, seconds, topology, pushes, planned)


def _failing_groups(producing: float) -> list[Planned]:
    """Return the faults of groups, each from the start until the last push."""
    kinds = [kind for kind in KINDS.values() if kind.on == "group"]
    return [Planned(0.0, producing, kind.name, target, 1.0) for kind in kinds for target in kind.targets]


def _schedule(rng: random.Random, topology: str, seconds: float, number: int) -> list[Planned]:
    """Use every kind once before any is repeated. Faults on the same target do not overlap."""
    possible = [kind for kind in KINDS.values() if topology in kind.topologies]
    # Faults beyond a lease take too much of a short run.
    possible = [kind for kind in possible if kind.seconds[1] < seconds / 3]
    deck: list[FaultKind] = []
    free: dict[str, float] = {}
    planned: list[Planned] = []
    gap = (seconds * PRODUCING - 1) / max(1, number)
    for index in range(number):
        if not deck:
            deck = [kind for kind in possible for _ in range(kind.weight)]
            rng.shuffle(deck)
        at = round(1 + gap * (index + rng.uniform(0, 0.8)), 2)
        for position, kind in enumerate(deck):
            targets = [target for target in kind.targets if free.get(resource(kind.name, target), 0) <= at]
            if targets:
                del deck[position]
                target, length = rng.choice(targets), round(rng.uniform(*kind.seconds), 2)
                free[resource(kind.name, target)] = at + length + 0.5
                planned.append(Planned(at, length, kind.name, target, round(rng.random(), 3)))
                break
    return planned
