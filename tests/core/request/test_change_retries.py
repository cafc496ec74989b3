"""Changes that are tried again: each counts once, however many nodes have made it."""

from __future__ import annotations

import pytest
from tests.core.request.test_change import change, refused, send, shown
from tests.core.world import World

from everwrite.core import unsettled
from everwrite.core.types.changing import APART_MAX, FOLD_OVER
from everwrite.core.types.composed import Counter, Map, Set
from everwrite.core.types.operations import (
    Add,
    Exclude,
    Include,
)
from everwrite.core.unsettled import ANSWERED_MAX


def test_a_change_that_is_tried_again_counts_once_and_says_what_is_there() -> None:
    world = World(3)
    a, b, _c = world.order()
    asked = [Add(["n"], 5), Include(["s"], ["x"])]
    change(world, a, *asked, op=b"once")
    change(world, a, Add(["n"], 1))

    again = change(world, b, *asked, op=b"once", retry=True)

    assert again.results == [6, 0]
    assert shown(world, b) == Map({"n": Counter(6), "s": Set(["x"])})
    assert world.nodes[b].local.counters.retries_recognised == 1


@pytest.mark.parametrize("retry", [False, True])
def test_a_change_is_recognised_by_what_is_left_of_it(retry: bool) -> None:
    """Its first piece, which has its id, was taken away; it must not come back."""
    world = World(3)
    a, b, _c = world.order()
    asked = [Include(["s"], ["x"]), Add(["n"], 5)]
    change(world, a, *asked, op=b"once", w=3)
    change(world, a, Exclude(["s"], ["x"]), w=3)
    world.kill(*world.ids)  # who remembers puts forgets them
    world.start(*world.ids)
    minted = world.record(b)

    again = change(world, b, *asked, op=b"once", retry=retry)

    assert again.results == [0, 5]
    assert shown(world, b) == Map({"n": Counter(5)})
    assert world.record(b) == minted


def test_a_change_that_only_took_away_is_recognised_too() -> None:
    world = World(3)
    a, b, _c = world.order()
    change(world, a, Include([], ["x", "y"]))
    change(world, a, Exclude([], ["x"]), op=b"once")
    change(world, b, Include([], ["x"]), w=3)

    again = change(world, b, Exclude([], ["x"]), op=b"once", retry=True)

    assert again.results == [0]
    assert shown(world, b) == Set(["x", "y"])


def test_a_change_that_was_folded_since_is_recognised() -> None:
    world = World(3)
    a, b, _c = world.order()
    change(world, a, Add([], 5), op=b"once")
    for _ in range(2 * FOLD_OVER):
        change(world, a, Add([], 1))
    assert b"once" not in [each.op for each in world.record(a).siblings]

    again = change(world, b, Add([], 5), op=b"once", retry=True)

    assert again.results == [5 + 2 * FOLD_OVER]
    assert shown(world, b) == Counter(5 + 2 * FOLD_OVER)


def test_a_change_that_was_minted_twice_counts_once() -> None:
    world = World(3)
    a, b, c = world.order()
    change(world, c, Add([], 1), w=3)
    world.lose = lambda source, target, message: True
    send(world, a, Add([], 5), op=b"once", w=1)
    world.run()
    world.lose = lambda source, target, message: False
    world.kill(a)
    change(world, b, Add([], 5), op=b"once", retry=True)
    world.start(a)

    assert shown(world, c, r=3) == Counter(6)
    for _ in range(FOLD_OVER + 2):
        for node in (a, b):
            change(world, node, Add([], 1), w=3)
    assert shown(world, c, r=3) == Counter(6 + 2 * (FOLD_OVER + 2))


def test_a_change_that_two_sides_of_a_cut_have_made_counts_once_however_many_come_after() -> None:
    """Neither side knows of the other, and both fold: but not what may have been made twice."""
    world = World(3)
    a, b, c = world.order()
    cut = {(a, b), (a, c), (b, a), (c, a)}
    world.lose = lambda source, target, message: (source, target) in cut
    send(world, a, Add([], 1000), op=b"once", w=2)
    world.advance(2000)
    change(world, b, Add([], 1000), op=b"once", retry=True)
    for _ in range(2 * APART_MAX):  # more than may stand apart, all of them answered promptly
        change(world, a, Add([], 1), w=1)
        change(world, b, Add([], 1), w=1)
    cut.clear()
    world.advance(2000)
    world.until(lambda: not any(node.hints.notes for node in world.nodes.values()))

    assert shown(world, c, r=3) == Counter(1000 + 4 * APART_MAX)
    assert len(world.record(c).siblings) <= 2 * (1 + 1 + ANSWERED_MAX + 1)


@pytest.mark.parametrize("n", [0, 1])
def test_a_change_whose_prompt_answer_a_cut_has_swallowed_counts_once(n: int) -> None:
    """Its client turns to an owner that has no copy of it, and can ask nobody."""
    world = World(3)
    a, b, c = world.order()
    change(world, c, Add([], 1), w=3)
    world.lose = lambda source, target, message: c in (source, target)
    change(world, a, Add([], 1000), op=b"once", n=n, w=0 if n else 2)
    send(world, c, Add([], 1000), op=b"once", retry=True, w=1)
    world.advance(2000)
    for _ in range(ANSWERED_MAX - 1):
        change(world, a, Add([], 1), w=1)
    world.lose = lambda source, target, message: False
    world.advance(2000)
    world.until(lambda: not any(node.hints.notes for node in world.nodes.values()))

    assert shown(world, b, r=3) == Counter(1000 + ANSWERED_MAX)


def test_increments_are_folded_as_soon_as_there_are_as_many_copies_as_there_may_be() -> None:
    """Whoever is asked to make one again finds it. A stand-in's copy is as good as an owner's."""
    world = World(4)
    a, b, c, d = world.order()
    for _ in range(2 * FOLD_OVER):
        change(world, a, Add([], 1))
    assert len(world.record(a).siblings) == FOLD_OVER + 1

    world.kill(c)
    world.advance(2000)
    for _ in range(2 * FOLD_OVER):
        change(world, a, Add([], 1))
    assert len(world.record(a).siblings) == FOLD_OVER + 1

    world.kill(d)  # nobody is left to stand in
    world.advance(2000)
    for _ in range(3 * ANSWERED_MAX):
        change(world, a, Add([], 1))
    assert len(world.record(a).siblings) == 1 + ANSWERED_MAX + 1
    assert shown(world, b) == Counter(4 * FOLD_OVER + 3 * ANSWERED_MAX)


def test_what_was_in_doubt_is_folded_when_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsettled, "DOUBT_MS", 20_000)
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target in (b, c)
    for number in range(3 * FOLD_OVER):
        send(world, a, Add([], 1), op=b"late%d" % number, w=2)
    world.advance(3000)
    world.lose = lambda source, target, message: False
    world.advance(3000)
    change(world, a, Add([], 1))
    assert len(world.record(a).siblings) == 3 * FOLD_OVER + 1

    world.advance(20_000)
    change(world, a, Add([], 1))

    assert len(world.record(a).siblings) == FOLD_OVER + 1
    assert shown(world, a, r=3) == Counter(3 * FOLD_OVER + 2)


def test_only_so_many_increments_in_doubt_stand_apart() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target in (b, c)
    for number in range(2 * APART_MAX):
        send(world, a, Add([], 1), op=b"late%d" % number, w=2)
        world.run()
    world.advance(3000)

    assert len(world.record(a).siblings) == APART_MAX + FOLD_OVER + 1
    assert shown(world, a, r=1) == Counter(2 * APART_MAX)


@pytest.mark.parametrize("first", ["change", "value"])
def test_one_id_for_a_change_and_for_a_value_is_refused(first: str) -> None:
    world = World(3)
    a, *_ = world.order()
    if first == "change":
        change(world, a, Add([], 1), op=b"once")
        failed = world.refused_put(a, b"v", op=b"once")
    else:
        world.put(a, b"1", op=b"once")
        failed = refused(world, a, Add([], 1), op=b"once")

    assert failed.code == "bad_request"
    assert "Idempotency-Key" in failed.message
