"""The phase of the survivors: it is part of many runs, and finds what a heal of all would hide."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from everwrite.core.hints.hints import Hints
from everwrite.core.request.read import GetRequest
from everwrite.core.request.spread import PutRequest
from everwrite.sim.options import LOST_BY, draw
from everwrite.sim.run import Verdict, run_seed

SEED = 3
"""A seed whose faults are few; the phase is set by hand."""


def run(how: str, survivors: int = 3, **changes: object) -> Verdict:
    """Run a cluster of six, of whom the others are lost in this way."""
    calm = msgspec.structs.replace(
        draw(SEED),
        nodes=6,
        replicas=3,
        operations=60,
        faults={},
        knobs={},
        zones=1,
        survivors=survivors,
        lost_by=how,
        spares=0,
        changes_ms=0,
    )
    return run_seed(SEED, msgspec.structs.replace(calm, **changes))


def rules(verdict: Verdict) -> set[str]:
    return {finding.rule for finding in verdict.findings}


def test_a_fifth_of_all_seeds_has_survivors_and_every_way_to_lose_the_others_is_drawn() -> None:
    drawn = Counter(options.lost_by for options in map(draw, range(1000)) if options.survivors)

    assert 150 < drawn.total() < 250
    assert set(drawn) == set(LOST_BY)
    assert min(drawn.values()) > 25


@pytest.mark.parametrize("survivors", [1, 2, 5])
@pytest.mark.parametrize("how", LOST_BY)
def test_survivors_serve_whatever_became_of_the_others(how: str, survivors: int) -> None:
    verdict = run(how, survivors)

    assert rules(verdict) == set()
    assert verdict.faults[f"others_{how}"] == 1


def test_a_read_that_gives_up_after_one_round_of_spares_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By those nodes alone that are heard and hear nothing: all others are taken for down."""
    ask = GetRequest._ask_spare

    def once(self: GetRequest) -> None:
        if not self._late:
            ask(self)

    monkeypatch.setattr(GetRequest, "_ask_spare", once)

    assert rules(run("deaf", 2, nodes=9, zones=1)) == {"survivors"}


def test_a_put_that_waits_for_the_silent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PutRequest, "_stand_in", lambda self, node, owner: None)

    assert rules(run("deaf", 2, nodes=9)) == {"survivors"}


def test_hints_that_go_home_in_turn_of_their_owners_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first owner for whom a hint waits blocks all others; after a heal of all none would."""

    def deliver(self: Hints) -> None:
        for owner in sorted(self.waiting)[:1]:
            if owner in self._local.liveness.up:
                self.deliveries.go(owner)

    monkeypatch.setattr(Hints, "deliver", deliver)
    monkeypatch.setattr(Hints, "back", lambda self, owner: None)
    split = {"faults": {"split": 300.0, "kill": 300.0}, "operations": 300}

    assert any("survivors" in rules(run("dead", 5, seed=seed, **split)) for seed in range(8))
