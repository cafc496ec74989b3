"""Whole runs: seeds that once found a fault, and fresh ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sim.listed import listed_as_open, unlisted

from everwrite.sim.campaign import run_seeds
from everwrite.sim.options import FAULTS, draw
from everwrite.sim.run import run_seed

KEPT = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
FRESH = range(20_000, 20_060)


@pytest.mark.slow
@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_found_a_fault_finds_none(seed: int) -> None:
    verdict = run_seed(seed)

    assert verdict.findings == [], draw(seed).describe()


@pytest.mark.slow
def test_fresh_seeds_break_no_rule_and_put_every_rule_to_the_test() -> None:
    campaign = run_seeds(FRESH)

    known, never = listed_as_open()
    assert [each for each in campaign.findings if (each.seed, each.rule) not in known] == []
    assert unlisted(campaign.invalid(), never) == []
    assert campaign.events > 200_000


def test_every_class_of_faults_is_drawn_by_some_seed() -> None:
    drawn = {name for seed in range(200) for name in draw(seed).faults}

    assert drawn == set(FAULTS)


def test_some_seeds_are_calm() -> None:
    assert any(not draw(seed).faults for seed in range(50))
