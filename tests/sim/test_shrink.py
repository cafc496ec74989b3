"""Shrinking: what is left fails as the whole did, is short, and is the same run each time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from everwrite.core.errors import ConfigError
from everwrite.sim.audit import NAME as AUDIT
from everwrite.sim.bugs.hunt import hunt
from everwrite.sim.case import (
    Case,
    describe,
    describe_class,
    describe_fault,
    dump_case,
    load_case,
    run_case,
    whole,
)
from everwrite.sim.history import Operation
from everwrite.sim.options import CHANGES, PER_MESSAGE, STEADY, TIMED
from everwrite.sim.run import Verdict, run_seed
from everwrite.sim.shrink import NothingBroken, Shrinker, ddmin

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
EVENTS_MAX = 30


def frozen_clock() -> float:
    return 0.0


def by_clients(history: list[Operation]) -> list[Operation]:
    return [operation for operation in history if operation.client != AUDIT]


def hunted(bug: str) -> Case:
    """Return the case of the first seed that catches a bug."""
    caught = hunt(bug, 20).caught
    assert caught is not None
    return whole(caught.seed, bug)


# -- ddmin -----------------------------------------------------------------------------------------


def counted(fails: Callable[[list[int]], bool]) -> tuple[Callable[[list[int]], bool], list[int]]:
    """Return a predicate, and a list that gets a size for each question it was asked."""
    asked: list[int] = []

    def predicate(items: list[int]) -> bool:
        asked.append(len(items))
        return fails(items)

    return predicate, asked


@given(st.lists(st.integers(), unique=True, max_size=60), st.data())
def test_of_what_fails_for_some_items_exactly_those_are_left(
    items: list[int], data: st.DataObject
) -> None:
    needed = data.draw(st.sets(st.sampled_from(items)) if items else st.just(set[int]()))

    left = ddmin(items, lambda kept: needed <= set(kept))

    assert left == [item for item in items if item in needed]


@given(st.lists(st.integers(0, 9), max_size=25), st.randoms(use_true_random=False))
def test_what_is_left_fails_and_nothing_more_can_be_left_out_whatever_fails(
    items: list[int], rng: st.random.Random
) -> None:
    verdicts: dict[tuple[int, ...], bool] = {tuple(items): True}

    def fails(kept: list[int]) -> bool:
        return verdicts.setdefault(tuple(kept), rng.random() < 0.4)

    left = ddmin(items, fails)

    assert fails(left)
    assert not any(fails(left[:i] + left[i + 1 :]) for i in range(len(left)))


def test_two_of_a_thousand_items_are_found_in_some_dozen_tries() -> None:
    fails, asked = counted(lambda kept: {137, 801} <= set(kept))

    assert ddmin(range(1000), fails) == [137, 801]
    assert len(asked) < 60


def test_what_needs_no_item_takes_one_try() -> None:
    fails, asked = counted(lambda kept: True)

    assert ddmin(range(1000), fails) == []
    assert asked == [0]


# -- cases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 6])
def test_the_case_of_a_seed_is_its_run_to_the_byte(seed: int) -> None:
    verdict, history = run_case(whole(seed))

    assert verdict == run_seed(seed)
    assert history


def test_an_operation_is_the_same_when_those_before_it_are_left_out() -> None:
    case = whole(3)
    case = replace(case, faults=[], options=replace(case.options, faults={}))
    _, history = run_case(case)
    last = max(by_clients(history), key=lambda each: (each.kind == "get", each.invoked))
    kept = {last.id: last.invoked}

    _, again = run_case(replace(case, operations=kept))

    (only,) = by_clients(again)
    assert (only.id, only.kind, only.key, only.invoked) == (
        last.id,
        last.kind,
        last.key,
        last.invoked,
    )
    assert (only.n, only.q, only.strict) == (last.n, last.q, last.strict)


def test_a_case_that_was_kept_is_the_same_run() -> None:
    case = replace(whole(6), operations={"c0.1": 70_000, "c1.1": 90_000})

    loaded = load_case(dump_case(case))

    assert loaded == case
    assert run_case(loaded)[0] == run_case(case)[0]


def test_a_case_from_before_an_option_existed_gets_it_from_its_seed() -> None:
    kept = msgspec.json.decode(dump_case(whole(6)))
    drawn = kept["options"].pop("near_us")

    assert load_case(msgspec.json.encode(kept)).options.near_us == drawn


def test_a_case_from_before_members_changed_has_no_changes() -> None:
    seed = next(seed for seed in count() if whole(seed).options.spares)
    kept = msgspec.json.decode(dump_case(whole(seed)))
    del kept["options"]["spares"], kept["options"]["changes_ms"]
    kept["faults"] = []

    assert not load_case(msgspec.json.encode(kept)).options.changing


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda kept: "no case", "not a case"),
        (lambda kept: [], "not a case"),
        (lambda kept: {**kept, "format": 99}, "format 99"),
        (lambda kept: {**kept, "options": {}}, "not a case"),
        (lambda kept: {**kept, "options": {**kept["options"], "nodes": 0}}, "no nodes"),
        (lambda kept: {**kept, "options": {**kept["options"], "nodes": 1, "spares": 0}}, "has not"),
        (
            lambda kept: {**kept, "faults": [{**kept["faults"][0], "kind": "typo"}]},
            "class 'typo'",
        ),
    ],
)
def test_what_is_no_case_is_refused(spoil: Callable[[dict[str, object]], object], why: str) -> None:
    seed = next(seed for seed in count() if any(fault.on > 0 for fault in whole(seed).faults))
    kept = msgspec.json.decode(dump_case(whole(seed)))

    with pytest.raises(ConfigError, match=why):
        load_case(msgspec.json.encode(spoil(kept)))


def test_every_fault_of_a_plan_can_be_told_in_words() -> None:
    told = {fault.kind: describe_fault(fault) for seed in range(60) for fault in whole(seed).faults}

    assert set(told) == {*TIMED, *CHANGES}
    assert all(" on node " in line and line.endswith(".") for line in told.values())


def test_every_class_of_faults_without_a_plan_can_be_told_in_words() -> None:
    cases = [whole(seed) for seed in range(60)]
    told = {name: describe_class(name, case.options) for case in cases for name in case.classes}

    assert set(told) == set(PER_MESSAGE) | set(STEADY)
    assert all(line.startswith(name) and " " in line for name, line in told.items())


# -- shrinking -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["skip-sync", "cache-failed-write", "ack-failed-write"])
def test_a_run_with_a_bug_shrinks_to_a_list_that_can_be_read(bug: str) -> None:
    given_case = hunted(bug)
    shrinker = Shrinker(given_case, frozen_clock)

    shrunk = shrinker.shrink()

    assert shrunk.after.events <= EVENTS_MAX < shrunk.before.events
    assert shrunk.case.rule == shrunk.finding.rule == shrinker.finding.rule
    verdict, _ = run_case(shrunk.case)
    assert shrunk.finding in verdict.findings
    assert run_case(replace(shrunk.case, bug=""))[0].findings == []
    assert len(describe(shrunk.case, shrunk.operations).splitlines()) <= EVENTS_MAX + 1
    assert given_case.options.nodes >= shrunk.case.options.nodes


def test_a_spent_budget_is_said_and_leaves_a_case_that_fails() -> None:
    shrinker = Shrinker(hunted("skip-sync"), frozen_clock, runs_max=3)

    shrunk = shrinker.shrink()

    assert (shrunk.runs, shrunk.ended) == (3, "runs")
    assert shrunk.finding in run_case(shrunk.case)[0].findings


def test_the_time_for_shrinking_ends() -> None:
    seconds = count(step=10)
    shrinker = Shrinker(hunted("skip-sync"), lambda: float(next(seconds)), seconds_max=35)

    shrunk = shrinker.shrink()

    assert (shrunk.runs, shrunk.ended) == (4, "seconds")


def test_a_run_that_breaks_no_rule_is_not_shrunk() -> None:
    with pytest.raises(NothingBroken):
        Shrinker(whole(6), frozen_clock)


def test_a_smaller_run_that_breaks_another_rule_is_no_success() -> None:
    def run(case: Case) -> tuple[Verdict, list[Operation]]:
        verdict, history = run_case(case)
        if case.operations is not None:
            verdict.findings = [replace(each, rule="other") for each in verdict.findings]
        return verdict, history

    shrinker = Shrinker(hunted("skip-sync"), frozen_clock, run=run)

    assert shrinker.shrink().case.operations is None


# -- cases that are kept ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_that_was_kept_breaks_its_rule_with_its_bug_and_none_without(path: Path) -> None:
    case = load_case(path.read_bytes())

    if case.bug:
        assert case.rule in {finding.rule for finding in run_case(case)[0].findings}
    assert run_case(replace(case, bug=""))[0].findings == []
