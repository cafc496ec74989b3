"""D: what replication and causality must stand, with whole nodes and the white-box judge watching.

How one coordinator decides is tested in tests/core/request, the laws of merging in tests/core/data.
"""

from __future__ import annotations

from tests.scenarios.stage import HOUR, SECOND, Stage, scenario

from everwrite.core.data import context
from everwrite.core.messages.requests import Failure, PutReply


@scenario(39)
def test_five_blind_writers_leave_five_siblings_and_one_that_read_them_leaves_one() -> None:
    stage = Stage(5)
    names = [f"writer {number}" for number in range(1, 6)]
    stage.answered(*[stage.ask_put(name, node + 1) for node, name in enumerate(names)])

    found = stage.get(3, r=3)
    assert found.values == names

    stage.put("merged", 4, seen=found.seen)
    assert stage.get(5, r=3).values == ["merged"]
    stage.settle()


@scenario(40)
def test_two_writers_who_never_see_each_other_leave_two_siblings_after_a_hundred_rounds() -> None:
    stage = Stage(3)
    one = two = stage.put("first").seen
    most = 0

    for turn in range(100):
        mine = stage.put(f"one {turn}", 1, seen=one)
        other = stage.put(f"two {turn}", 2, seen=two)
        one, two = mine.seen, other.seen
        most = max(most, mine.stored.siblings, other.stored.siblings)

    assert most == 2, "both branches were alive, and nothing else"
    assert stage.get(3, r=3).values == ["one 99", "two 99"]
    stage.settle()


@scenario(41)
def test_a_context_that_is_foreign_forged_or_sewn_together_supersedes_nothing() -> None:
    stage = Stage(3, keys=2)
    own = stage.put("mine", 1).seen.token
    foreign = stage.put("theirs", 2, key=1).seen.token
    stage.put("unseen", 3)
    forged = [own[:at] + bytes((own[at] ^ 1,)) + own[at + 1 :] for at in range(4, len(own))]
    bad = [foreign, own[:-1], context.combine([own, foreign]), *forged]

    for number, token in enumerate(bad):
        put = stage.put(f"thief {number}", 1 + number % 3, context=token)
        assert (put.failure.code, put.failure.outcome) == ("bad_context", "none")

    assert len(bad) > 40
    assert stage.get(1, r=3).values == ["mine", "unseen"]
    stage.settle()


@scenario(43)
def test_a_put_that_only_stand_ins_took_reaches_its_owners_when_they_are_back() -> None:
    stage = Stage(6)
    *owners, spare, second, third = stage.owners()
    stage.kill(*owners)

    put = stage.put("a", spare, w=3)
    assert (put.stored.owners, put.stored.fallbacks, put.stored.durable) == (0, 3, 3)
    assert stage.hints(spare, second, third) == 3
    assert all(stage.held(owner) == [] for owner in owners)

    stage.restart(*owners)
    assert stage.until(lambda: stage.hints() == 0)
    assert all(stage.held(owner) == ["a"] for owner in owners)
    stage.settle()


@scenario(44)
def test_reads_in_the_middle_of_a_write_add_to_stale_owners_and_take_nothing_away() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.put("old", a, w=3)
    stage.split({a}, {b, c})
    stage.answered(stage.ask_put("left", a, w=1), stage.ask_put("right", b, w=2))
    assert (stage.held(a), stage.held(b)) == (["left", "old"], ["old", "right"])
    stage.unite({a}, {b, c})

    partial = stage.ask_put("later", c, w=3)
    reads = [stage.ask_get(node, r=3) for node in (a, b, c, a, b, c)]
    stage.answered(partial, *reads)

    assert sum(stage.node(each).local.counters.read_repairs for each in (a, b, c)) > 0
    assert {"left", "old", "right"} <= set(reads[-1].values)
    stage.run(1000)
    assert stage.held(a) == stage.held(b) == stage.held(c) == ["later", "left", "old", "right"]
    stage.settle()


@scenario(45)
def test_two_read_repairs_and_a_put_of_one_key_at_one_moment_end_in_equal_copies() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    for turn in range(20):
        stage.split({a}, {b}, {c})
        for node in (a, b, c):
            stage.put(f"{turn} at {node}", node, w=1)
        seen = stage.get(a, r=1).seen
        stage.unite({a}, {b}, {c})
        stage.answered(
            stage.ask_get(a, r=3),
            stage.ask_get(b, r=3),
            stage.ask_put(f"merged {turn}", c, seen=seen, w=3),
        )
        stage.run(100)
        assert stage.record(a) == stage.record(b) == stage.record(c)
        stage.put(f"one again {turn}", b, seen=stage.get(b, r=3).seen, w=3)

    repairs = [stage.node(node).local.counters.read_repairs for node in (a, b)]
    assert min(repairs) >= 20, "both coordinators repaired each time"
    stage.settle()


@scenario(46)
def test_a_thousand_blind_writers_are_taken_or_refused_and_none_is_dropped() -> None:
    stage = Stage(3)
    outcomes: list[str] = []

    for number in range(1000):
        answer = stage.put(f"w{number:04}", stage.owners()[0]).answer
        if isinstance(answer, Failure):
            assert (answer.code, answer.outcome) == ("too_large", "none")
            assert "merge" in answer.hint
        outcomes.append(type(answer).__name__)

    most = stage.node(1).local.config.siblings_max
    assert outcomes == ["PutReply"] * most + ["Failure"] * (1000 - most)
    assert stage.get(2, r=3).values == [f"w{number:04}" for number in range(most)]
    stage.settle()


@scenario(46)
def test_what_two_sides_of_a_split_wrote_is_merged_beyond_the_cap_and_none_is_dropped() -> None:
    stage = Stage(4, siblings_max=8)
    left, right = set(stage.owners()[:2]), set(stage.owners()[2:])
    stage.split(left, right)
    names = [f"{side}{turn}" for side in ("left ", "right ") for turn in range(8)]
    for name in names:
        at = min(left if name.startswith("left") else right)
        assert stage.put(name, at, w=1).ok
    assert stage.put("one more", min(left), w=1).failure.code == "too_large"

    stage.unite(left, right)
    assert stage.until(lambda: not stage.world.unrest(), 30 * SECOND), stage.world.unrest()

    found = stage.get(1, r=3)
    assert found.values == names, "twice the cap, and all there"
    assert stage.put("merged", 2, seen=found.seen, w=3).stored.siblings == 1
    stage.settle()


@scenario(47)
def test_a_clock_of_many_restarted_writers_is_never_pruned_and_loses_nothing() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    sibling = stage.put("sibling of old", c)
    seen = stage.put("first", a).seen

    for life in range(40):
        stage.kill(a)
        stage.restart(a)
        seen = stage.put(f"life {life}", a, seen=seen).seen

    assert len(stage.record(b).clock) == 42, "a writer for each life, and the two of the first"
    assert sibling.stored.siblings == 1
    assert stage.get(b, r=3).values == ["life 39", "sibling of old"]
    stage.settle()


@scenario(48)
def test_a_put_that_did_not_know_of_a_delete_outlives_it() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    read = stage.put("old", a, w=3)
    stage.split({a}, {b, c})
    stage.delete("gone", a, seen=read.seen, w=1)
    stage.put("kept", b, seen=read.seen, w=2)
    assert (stage.held(a), stage.held(b)) == (["gone"], ["kept"])

    stage.unite({a}, {b, c})
    stage.get(c, r=3)
    stage.run(100)

    assert stage.held(a) == stage.held(b) == stage.held(c) == ["gone", "kept"]
    assert stage.get(b, r=3).values == ["kept"]
    stage.settle()


@scenario(49)
def test_an_owner_that_slept_through_a_delete_does_not_bring_the_value_back() -> None:
    stage = Stage(3, ping_every_ms=10_000, down_after_ms=30_000)
    a, b, c = stage.owners()
    seen = stage.put("old", a, w=3).seen
    stage.kill(c)
    stage.delete("gone", a, seen=seen)
    assert stage.held(c) == ["old"], "the fault: a copy that knows nothing of the delete"

    stage.run(HOUR)
    stage.restart(c)
    reads = [stage.get(node, r=3) for node in (a, b, c)]

    assert [read.values for read in reads] == [[], [], []]
    assert {read.found.quality.absent for read in reads} == {"deleted"}
    stage.run(1000)
    assert stage.held(c) == ["gone"]
    stage.settle()


@scenario(50)
def test_a_delete_that_comes_home_late_does_not_take_the_next_life_of_its_key() -> None:
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    first = stage.put("first life", a, w=3)
    stage.kill(c)
    gone = stage.delete("gone", a, seen=first.seen, w=3)
    assert (gone.stored.fallbacks, stage.hints(spare)) == (1, 1), "the delete is on a stand-in"
    stage.kill(spare)
    for owner in (a, b):  # as if the tombstone had been collected
        stage.forget(owner)
    stage.put("second life", a, w=2)

    stage.restart(spare, c)
    assert stage.until(lambda: stage.hints() == 0)

    assert stage.get(a, r=3).values == ["second life"]
    stage.run(100)
    assert "second life" in stage.held(c)
    stage.settle()


@scenario(51)
def test_a_hint_older_than_a_delete_brings_nothing_back() -> None:
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    stage.kill(c)
    seen = stage.put("old", a, w=3).seen
    assert stage.hints(spare) == 1
    stage.kill(spare)
    stage.restart(c)
    stage.delete("gone", b, seen=seen, w=3)
    assert stage.held(c) == ["gone"]

    stage.restart(spare)
    assert stage.until(lambda: stage.hints() == 0), "the old hint came home"

    assert stage.held(c) == ["gone"]
    assert stage.get(c, r=3).values == []
    stage.settle()


@scenario(42)
def test_a_put_whose_coordinator_dies_under_a_node_that_handed_it_on_is_one_write() -> None:
    stage = Stage(5)
    a, b, _, _, outside = stage.owners()
    put = stage.ask_put("once", outside)
    assert stage.until(lambda: stage.held(b) == ["once"]), "the first owner has spread it"
    stage.kill(a)
    stage.answered(put)

    assert put.stored.owners + put.stored.fallbacks >= 2
    assert stage.node(outside).local.counters.forwards == 1, "it was handed on, and taken back"
    found = stage.get(b, r=3)
    assert found.values == ["once"] and len(stage.record(b).siblings) == 1
    stage.settle()


@scenario(52)
def test_never_written_is_said_only_by_all_owners_together() -> None:
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    assert stage.get(a, r=1).found.quality.absent == "never"

    stage.kill(c)
    absent = {
        (node, r): stage.get(node, r=r).found.quality.absent
        for node in (a, b, spare)
        for r in (1, 2, 3)
    }

    assert set(absent.values()) == {"unknown"}, "an owner is away, and may know better"
    stage.settle()


@scenario(42)
def test_a_put_whose_answer_was_lost_is_one_write_when_it_goes_through_another_node() -> None:
    stage = Stage(4)
    a, b, c, _ = stage.owners()
    first = stage.ask_put("once", a, w=3)
    assert stage.until(lambda: stage.held(b) == ["once"])
    stage.kill(a)
    assert first.broken and first.answer is None

    again = stage.answered(stage.ask_again(first, c, w=3))

    assert isinstance(again.answer, PutReply)
    assert stage.node(c).local.counters.retries_recognised == 1
    assert len(stage.record(c).siblings) == len(stage.record(b).siblings) == 1
    stage.settle()
