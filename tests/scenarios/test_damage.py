"""A: disks that give back something else than was written, or nothing, in whole clusters.

What the engines make of damaged files is in tests/storage.
"""

from __future__ import annotations

import pytest
from tests.scenarios.stage import SECOND, Stage, scenario

from everwrite.core.records import HINT, OWN
from everwrite.sim.disk import ROTTEN


@scenario(10)
def test_a_copy_that_the_disk_will_not_give_is_never_taken_for_absent() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.put("w", a, w=3)
    failed = 0
    for _ in range(20):
        for node in (a, b):
            stage.machine(node).disk.errors_until = stage.world.now + 10_000_000
            stage.cool(node)
        read = stage.get(c, r=2)
        if hasattr(read.answer, "quality"):
            assert read.values == ["w"]
            failed += read.found.quality.unreadable
        else:
            failed += 1
            assert "cannot read" in read.failure.message
        stage.run(100)

    assert failed > 5, "the disks did fail"
    for node in (a, b):
        stage.machine(node).disk.errors_until = 0
    assert [stage.held(node) for node in (a, b, c)] == [["w"]] * 3
    stage.settle()


@scenario(10)
def test_a_copy_that_the_disk_will_not_give_is_not_written_over_by_a_repair() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.put("everywhere", a, w=3)
    stage.split({a}, {b, c})
    stage.put("only at a", a, w=1)
    stage.run(100)
    stage.unite({a}, {b, c})
    stage.machine(a).disk.errors_until = stage.world.now + 3600 * 1_000_000

    for _ in range(20):
        stage.cool(a)
        stage.get(c, r=2)
        stage.run(50)
    assert stage.node(a).local.counters.unreadable > 3, "the disk did fail"
    assert "only at a" in stage.held(a)

    stage.machine(a).disk.errors_until = 0
    assert stage.get(b, r=3).values == ["everywhere", "only at a"]
    stage.settle()


@scenario(11)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_copy_is_never_served_and_a_read_replaces_it(place: int) -> None:
    stage = Stage(3)
    owners = stage.owners()
    stage.put("one", owners[0], w=3)
    stage.put("two", owners[1], w=3)
    stage.run(100)
    stage.rot(owners[place])

    reads = [stage.get(node, r=2) for node in owners]
    assert [read.values for read in reads] == [["one", "two"]] * 3
    stage.run(1000)

    assert stage.node(owners[place]).local.counters.unreadable > 0, "the damage was met"
    assert stage.held(owners[place]) == ["one", "two"], "and mended"
    stage.settle()


@scenario(11)
def test_a_damaged_hint_is_not_delivered_and_its_owner_is_mended_by_a_read() -> None:
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    stage.kill(c)
    stage.put("w", a, w=3)
    stage.run(100)
    stage.rot(spare, kind=HINT)

    stage.restart(c)
    stage.run(3 * SECOND)
    assert stage.node(spare).local.counters.unreadable > 0, "the damage was met"
    assert stage.held(c) == []

    assert stage.get(b, r=3).values == ["w"]
    stage.run(100)
    assert stage.held(c) == ["w"]
    stage.settle()


@scenario(11)
def test_a_damaged_copy_is_not_replaced_while_an_owner_that_may_know_more_is_away() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.put("everywhere", a, w=3)
    stage.kill(b)
    stage.put("not at b", a, w=2)
    stage.restart(b)
    assert stage.until(lambda: stage.hints() == 0)
    stage.kill(b)
    stage.run(100)
    stage.rot(a)

    for _ in range(5):
        stage.get(c, r=1)
        stage.run(100)
    damaged = OWN + stage.world.keys[0].data_key
    assert stage.machine(a).disk.visible[damaged] is ROTTEN, "it is left alone"

    stage.restart(b)
    stage.get(c, r=2)
    stage.run(100)
    assert stage.held(a) == ["everywhere", "not at b"]
    stage.settle()


@scenario(11)
def test_a_hint_that_meets_a_damaged_copy_has_it_mended_by_a_read_of_all() -> None:
    stage = Stage(4)
    a, _, c, spare = stage.owners()
    first = stage.put("first", a, w=3)
    stage.run(100)
    stage.kill(c)
    stage.put("second", a, w=3)
    assert stage.hints(spare) == 1
    stage.rot(c)

    stage.restart(c)
    assert stage.until(lambda: stage.hints() == 0), "the note is not struck out before that"

    assert stage.node(c).local.counters.unreadable > 0, "the damage was met"
    assert first.ok and stage.held(c) == ["first", "second"]
    stage.settle()


@scenario(11)
def test_a_stand_in_that_cannot_read_its_hint_never_says_that_there_is_nothing() -> None:
    stage = Stage(6)
    a, b, c, first, second, third = stage.owners()
    stage.kill(a, b, c)
    stage.run(2 * SECOND)
    stage.put("w", first, w=3)
    stage.run(100)
    for keeper in (first, second, third):
        stage.rot(keeper, kind=HINT)

    for keeper in (first, second, third):
        read = stage.get(keeper, r=1)
        assert "3 cannot read their copy" in read.failure.message


@scenario(22)
def test_damaged_records_keep_no_node_from_starting_and_serving_the_rest() -> None:
    stage = Stage(3, keys=8)
    a, b, c = stage.owners()
    for key in range(8):
        stage.put(f"w{key}", a, key=key, w=3)
    stage.kill(c)
    stage.put("hinted", a, key=7)
    stage.put("what syncs the hint too", a, key=6, seen=stage.get(a, key=6).seen)
    stage.run(100)
    for key in range(4):
        stage.rot(a, key)
    stage.rot(a, 7, kind=HINT)

    for node in (a, b):
        stage.kill(node)
    stage.restart(a, b, c)
    for life in range(2, 5):
        assert stage.machine(a).incarnation == life, "it started at the first try"
        stage.kill(a)
        stage.restart(a)

    for key in range(6):
        assert stage.get(a, key=key, r=2).values == [f"w{key}"]
    assert len(stage.machine(a).disk.rotted) == 5, "the fault happened, whoever found it"
    assert stage.machine(a).disk.readable(OWN + stage.world.keys[5].data_key)
    stage.settle()
