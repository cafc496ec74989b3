"""The kept seeds of deliberate bugs: tried first, never trusted alone, and how they are found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import pytest
from tests.sim import quickest
from tests.sim.quickest import KEPT_MAX, Search, hunt_by, kept_seeds

from everwrite.sim.bugs import BUGS, planted
from everwrite.sim.options import draw
from everwrite.sim.run import run_seed

BUG = "merge-drops-sibling"


@pytest.fixture
def harmless() -> Iterator[str]:
    """Return the name of a bug that changes nothing, and counts what BUG breaks."""
    BUGS["harmless"] = BUGS[BUG]._replace(plant=nullcontext)
    yield "harmless"
    del BUGS["harmless"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search end soon, whether it finds anything or not."""
    monkeypatch.setattr(quickest, "PASSES", ((500, 3_000), (1_000, 5_000)))
    monkeypatch.setattr(quickest, "WHOLE_RUNS", 1)


def test_there_are_kept_seeds_of_every_bug() -> None:
    kept = kept_seeds()

    assert list(kept) == list(BUGS), "make the table anew: see quickest.py"
    assert all(0 < len(set(seeds)) == len(seeds) <= KEPT_MAX for seeds in kept.values())


# -- hunts -----------------------------------------------------------------------------------------


def test_a_bug_that_its_first_kept_seed_catches_costs_one_run() -> None:
    seed = kept_seeds()[BUG][0]

    hunted = hunt_by(BUG, [seed], 0)

    assert hunted.caught is not None
    assert (hunted.seeds, hunted.caught.seed) == (1, seed)
    assert hunted.caught.rule in BUGS[BUG].rules


def test_a_bug_that_no_kept_seed_catches_is_hunted_as_if_there_were_none() -> None:
    calm = next(seed for seed in count() if not draw(seed).faults and draw(seed).nodes <= 2)
    alone = hunt_by("ack-failed-write", [], 20)

    hunted = hunt_by("ack-failed-write", [calm], 20)

    assert hunted.caught == alone.caught is not None
    assert hunted.seeds == 1 + alone.seeds


def test_a_bug_that_nothing_catches_gets_away_whatever_was_kept(harmless: str) -> None:
    hunted = hunt_by(harmless, kept_seeds()[BUG][:1], 1)

    assert hunted.caught is None
    assert hunted.seeds == 2


# -- the search ------------------------------------------------------------------------------------


def test_what_is_found_catches_the_bug_after_so_many_events_and_the_best_comes_first() -> None:
    found = Search(BUG, []).best()

    assert len(found) == KEPT_MAX
    assert [each.worth for each in found] == sorted(each.worth for each in found)
    with planted(BUG):
        verdict = run_seed(found[0].seed)
    assert {each.rule for each in verdict.findings} & set(BUGS[BUG].rules)
    assert verdict.events == found[0].events


@pytest.mark.usefixtures("short")
def test_nothing_is_found_for_a_bug_that_changes_nothing(harmless: str) -> None:
    assert not Search(harmless, [0]).best()


@pytest.mark.usefixtures("short")
def test_a_seed_that_breaks_the_rule_without_the_bug_too_is_not_kept(harmless: str) -> None:
    seed = kept_seeds()[BUG][0]

    with planted(BUG):
        assert {each.rule for each in run_seed(seed).findings} & set(BUGS[harmless].rules)
        assert not Search(harmless, [seed]).best()


def test_seeds_that_are_kept_today_are_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(Search, "_try", lambda self, seed, limit: tried.append(seed))
    monkeypatch.setattr(Search, "_enough", lambda self: len(tried) >= 4)

    Search(BUG, [9, 7]).best()

    assert tried[:4] == [9, 7, 0, 1]


def test_the_table_is_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickest, "TABLE", tmp_path / "quickest.txt")
    assert kept_seeds() == {}
    first, second, *_ = BUGS

    quickest.write_table({second: [5], first: [1, 2], "forgotten": [3]})

    assert list(kept_seeds().items()) == [(first, [1, 2]), (second, [5])]
