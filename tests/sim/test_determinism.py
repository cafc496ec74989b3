"""A seed is a run, to the byte: in this process, in another, under another hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from everwrite.sim.campaign import run_seeds
from everwrite.sim.options import plan
from everwrite.sim.run import draw, run_seed

SEEDS = (3, 11, 12)
PROGRAM = (
    "import sys\n"
    "from everwrite.sim.run import run_seed\n"
    "for seed in sys.argv[1:]:\n"
    "    verdict = run_seed(int(seed))\n"
    "    print(verdict.trace, verdict.events, verdict.faults, verdict.operations)\n"
)


def elsewhere(hash_seed: str) -> list[str]:
    """Run the seeds in another process; return what each came to."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, SEEDS)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_a_seed_is_the_same_run_in_another_process_under_another_hash_seed(hash_seed: str) -> None:
    here = [run_seed(seed) for seed in SEEDS]

    there = elsewhere(hash_seed)

    assert there == [f"{each.trace} {each.events} {each.faults} {each.operations}" for each in here]


def test_what_ran_before_makes_no_difference() -> None:
    first = run_seed(12)
    run_seed(3)

    assert run_seed(12).trace == first.trace


def test_seeds_are_different_runs() -> None:
    assert len({run_seed(seed).trace for seed in SEEDS}) == len(SEEDS)


@pytest.mark.slow
def test_several_processes_come_to_what_one_comes_to() -> None:
    one = run_seeds(range(12))

    two = run_seeds(range(12), processes=2)

    assert (two.traces, two.faults, two.operations) == (one.traces, one.faults, one.operations)


def test_a_run_can_be_repeated_with_some_of_its_faults_left_out() -> None:
    options = draw(11)
    faults = plan(options)

    assert run_seed(11, options, faults).trace == run_seed(11).trace
    assert run_seed(11, options, faults[1:]).trace != run_seed(11).trace
