"""What the workloads' own judges must find in an end, and what they must not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.clients import REPLICAS, Client, Log, ids_in
from tests.chaos.nemesis import KILLS, KINDS, draw_plan
from tests.chaos.workloads import (
    KEYS_AT_ONCE,
    WRITES_PER_KEY,
    CartLoad,
    CounterLoad,
    Keys,
    RegisterLoad,
    SetLoad,
    Workload,
    larger,
)
from tests.process.clusters import in_loop
from tests.server.nodes import Nodes

import everwrite
from everwrite.sim.checkers import assumed, check_history
from everwrite.sim.history import Operation, Outcome


def put(name: str, *seen: str, outcome: Outcome = "ok", tries: int = 1, at: int = 0) -> Operation:
    """A write named by its place in time and a letter: "1a" began before "2b"."""
    began = at or int(name[0]) * 10
    return Operation(name, "c", "put", "set/k", began, list(seen), began + 5, outcome, tries=tries)


def read(began: int, *found: str) -> Operation:
    return Operation(f"r{began}", "c", "get", "set/k", began, [], began + 5, "ok", list(found))


def of_cart(*operations: Operation) -> list[Operation]:
    for operation in operations:
        operation.key = "cart/k"
    return list(operations)


def judged_set(history: Sequence[Operation], *items: str) -> tuple[list[str], dict[str, int]]:
    load = SetLoad()
    breaches = load.judge(history, {"set/k": [{"ops": [], "items": list(items)}]})
    return [breach.rule for breach in breaches], dict(load.elements)


# -- set -------------------------------------------------------------------------------------------


def test_an_acknowledged_element_that_is_missing_is_lost() -> None:
    history = [put("1a"), put("2b", "1a"), read(90, "2b")]

    assert judged_set(history, "1a", "2b") == ([], {"stable": 2})
    assert judged_set(history, "2b") == (["lost"], {"lost": 1, "stable": 1})
    assert judged_set(history) == (["lost", "lost"], {"lost": 2})


def test_an_element_that_a_later_read_missed_is_stale_and_not_lost() -> None:
    history = [put("1a"), put("2b"), read(40, "1a"), read(90, "1a", "2b")]

    assert judged_set(history, "1a", "2b") == ([], {"stable": 1, "stale": 1})


def test_a_read_that_found_what_took_an_element_over_did_not_miss_it() -> None:
    history = [put("1a"), put("2b", "1a"), read(40, "2b"), read(90, "2b")]

    assert judged_set(history, "1a", "2b") == ([], {"stable": 2})


def test_an_element_of_unknown_outcome_may_be_there_or_not_and_a_refused_one_may_not() -> None:
    unknown = [put("1a", outcome="unknown"), read(90)]
    refused = [put("1a", outcome="fail"), read(90)]

    assert judged_set(unknown, "1a")[0] == []
    assert judged_set(unknown)[0] == []
    assert judged_set(refused)[0] == []
    assert judged_set(refused, "1a")[0] == ["phantom element"]
    assert judged_set(refused, "9z")[0] == ["phantom element"]


# -- cart ------------------------------------------------------------------------------------------


def judged_cart(
    history: Sequence[Operation], added: str, removed: dict[str, str], *items: str
) -> list[str]:
    """The writes in ``added`` each put in an item of their own name."""
    load = CartLoad()
    load.added = {name: f"item {name}" for name in added.split()}
    load.removed = {write: f"item {item}" for write, item in removed.items()}
    values = [{"ops": [], "items": [f"item {item}" for item in items]}]
    return [breach.rule for breach in load.judge(history, {"cart/k": values})]


def test_an_item_that_nobody_took_out_is_lost_if_it_is_missing() -> None:
    history = of_cart(put("1a"), put("2b", "1a"))

    assert judged_cart(history, "1a 2b", {}, "1a", "2b") == []
    assert judged_cart(history, "1a 2b", {}, "2b") == ["lost"]


def test_an_item_may_go_by_a_removal_that_knew_it_and_by_no_other() -> None:
    history = of_cart(put("1a"), put("2b", "1a"))
    apart = of_cart(put("1a"), put("2b"))

    assert judged_cart(history, "1a", {"2b": "1a"}) == []
    assert judged_cart(apart, "1a", {"2b": "1a"}) == ["lost"]


def test_a_removed_item_may_be_back_only_if_somebody_kept_it_in_ignorance() -> None:
    history = of_cart(put("1a"), put("2b", "1a"), put("3c", "2b"))
    apart = of_cart(put("1a"), put("2b", "1a"), put("3c", "1a"), put("4d", "2b", "3c"))

    assert judged_cart(history, "1a 3c", {"2b": "1a"}, "1a", "3c") == ["back"]
    assert judged_cart(apart, "1a 3c 4d", {"2b": "1a"}, "1a", "3c", "4d") == []


def test_a_removed_item_may_be_back_if_its_put_was_retried() -> None:
    history = of_cart(put("1a", tries=2), put("2b", "1a"))

    assert judged_cart(history, "1a", {"2b": "1a"}, "1a") == []


def test_an_item_that_nobody_added_is_a_phantom() -> None:
    assert judged_cart(of_cart(put("1a")), "1a", {}, "1a", "9z") == ["phantom item"]


# -- counter ---------------------------------------------------------------------------------------


def test_the_larger_count_of_each_client_is_kept() -> None:
    values = [
        {"ops": ["1a"], "counts": {"x": 3, "y": 1}},
        {"ops": ["2b"], "counts": {"x": 2, "y": 4, "z": 1}},
    ]

    assert larger(values) == {"ops": ["1a", "2b"], "counts": {"x": 3, "y": 4, "z": 1}}
    assert ids_in(values) == ["1a", "2b"]


# -- the whole of it, against nodes ----------------------------------------------------------------


async def steps_of(load: Workload, log: Log, url: str) -> dict[str, list[Any]]:
    """Run a workload with two clients for some steps, and return the ends of all its keys."""
    rng = random.Random(1)
    ends: dict[str, list[Any]] = {}
    async with await everwrite.connect(url) as one, await everwrite.connect(url) as two:
        clients = [Client("one", one, log), Client("two", two, log)]
        for step in range(150):
            await load.step(clients[step % 2], rng)
        for name in sorted({operation.key for operation in log.history}):
            found = await clients[0].get(clients[0].bucket(load.name), name.partition("/")[2])
            assert found is not None
            ends[name] = found.values
    return ends


@pytest.mark.parametrize("kind", [SetLoad, CartLoad, CounterLoad, RegisterLoad])
@in_loop
async def test_without_faults_nothing_is_wrong_and_what_is_taken_away_is_missed(
    kind: type[Workload], tmp_path: Path
) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2", "n3")
        load, log = kind(), Log()
        ends = await steps_of(load, log, nodes.url())

        assert log.breaches == []
        assert log.failures == 0
        assert load.judge(log.history, ends) == []
        assert check_history(log.history, assumed(log.history), REPLICAS) == []
        if kind is not RegisterLoad:
            assert "lost" in {breach.rule for breach in load.judge(log.history, {})}


@in_loop
async def test_a_count_that_nobody_counted_is_a_phantom(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2", "n3")
        load, log = CounterLoad(), Log()
        ends = await steps_of(load, log, nodes.url())
        ends[next(iter(ends))].append({"ops": [], "counts": {"one": 10_000}})

        assert [breach.rule for breach in load.judge(log.history, ends)] == ["phantom count"]


def test_keys_are_retired_after_some_writes() -> None:
    keys, rng = Keys("k"), random.Random(1)
    drawn = Counter(keys.draw(rng, write=True) for _ in range(100 * WRITES_PER_KEY))

    assert max(drawn.values()) <= WRITES_PER_KEY
    assert len(drawn) >= 100 - KEYS_AT_ONCE


# -- the plan --------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_plan_and_another_one_another() -> None:
    assert draw_plan(1, 300, 5) == draw_plan(1, 300, 5)
    assert draw_plan(1, 300, 5) != draw_plan(2, 300, 5)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_every_kind_and_enough_kills(seed: int) -> None:
    plan = draw_plan(seed, 300, 5)
    kills = [strike for strike in plan if strike.kind in KILLS]

    assert {strike.kind for strike in plan} == set(KINDS)
    assert len(kills) >= 70
    assert all(strike.seconds >= 0.2 for strike in plan if strike.kind == "pause")
    assert {strike.kind for strike in draw_plan(seed, 20, 5)} == set(KINDS)


def test_a_plan_has_no_fault_that_was_not_asked_for() -> None:
    assert {strike.kind for strike in draw_plan(1, 60, 5, ["pause"])} == {"pause"}
