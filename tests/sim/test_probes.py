"""Probes on rare branches: named once, counted alike by each run, missed when they are not hit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import everwrite
from everwrite.core.errors import InvariantError
from everwrite.core.probes import HITS, sometimes
from everwrite.sim.campaign import PROBED_MIN, Campaign, run_seeds
from everwrite.sim.probed import probes_in, probes_placed
from everwrite.sim.run import run_seed

SRC = Path(everwrite.__file__).parent
READERS = ["sim/run.py"]
"""Who may look at the counts; nobody in the core, or they would decide something."""


def test_each_probe_has_a_name_of_its_own_in_words() -> None:
    placed = probes_placed()

    assert len(placed) >= 40
    for name, place in placed.items():
        assert " " in name and name == name.strip() and name[-1] not in ".!", place


def test_probes_stand_only_where_they_are_looked_for() -> None:
    calls = {
        path.relative_to(SRC).parts[0]
        for path in SRC.rglob("*.py")
        if any(probes_in(path.read_text()))
    }

    assert calls <= {"core", "sim"}


def test_nothing_reads_the_counts_but_who_reports_them() -> None:
    readers = [
        path.relative_to(SRC).as_posix()
        for path in sorted(SRC.rglob("*.py"))
        if any(
            isinstance(node, ast.Name | ast.alias) and "HITS" in (ast.unparse(node))
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]

    assert readers == ["core/probes.py", *READERS]


@pytest.mark.parametrize(
    "call", ["sometimes(name)", "sometimes(f'{x}')", "sometimes()", "sometimes('a', 'b')"]
)
def test_a_name_that_is_no_literal_is_refused(call: str) -> None:
    with pytest.raises(InvariantError, match="literal"):
        list(probes_in(call))


def test_a_probe_is_found_with_its_line() -> None:
    assert list(probes_in("x = 1\nif x:\n    sometimes('x is one')")) == [("x is one", 3)]


def test_a_probe_counts() -> None:
    HITS.clear()

    sometimes("a test hits a probe")
    sometimes("a test hits a probe")

    assert HITS == {"a test hits a probe": 2}


def test_a_run_counts_its_own_probes_and_the_same_each_time() -> None:
    first = run_seed(2)
    sometimes("something before the run")

    assert run_seed(2).probes == first.probes
    assert first.probes.keys() <= probes_placed().keys()
    assert first.probes


def test_the_counts_of_other_processes_come_back() -> None:
    here = run_seeds(range(6), processes=1)
    apart = run_seeds(range(6), processes=2)

    assert apart.probes == here.probes


def test_a_long_run_that_never_took_a_rare_branch_is_invalid() -> None:
    missed, *hit = probes_placed()

    campaign = Campaign(seeds=PROBED_MIN, probes=dict.fromkeys(hit, 1))

    assert campaign.invalid() == [f"in {PROBED_MIN} seeds never: {missed}"]


def test_a_short_run_need_not_take_all_rare_branches() -> None:
    campaign = Campaign(seeds=PROBED_MIN - 1)

    assert campaign.invalid() == []
    assert campaign.never_hit() == list(probes_placed())
