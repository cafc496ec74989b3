"""Owners that agree without readers, and what is forgotten for good: scenarios 13, 45-63.

Times are virtual, so the periods that a node waits are short.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.scenarios.stage import SECOND, Stage, scenario

from everwrite.core.data.versions import EMPTY
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Store
from everwrite.core.messages.trees import Differing, Entries, Rooted, Summed, Sums
from everwrite.core.wire import decode_payload
from everwrite.sim.beginning import TREES

COMPARING = {
    "leaf_bits": 8,
    "repair_every_ms": 100,
    "repair_round_ms": 500,
    "repair_settle_ms": 50,
    "repair_retry_ms": 500,
    "repair_back_ms": 100,
    "scrub_cycle_ms": 2000,
}
COLLECTING = {"store_life_ms": 1000, "collect_every_ms": 200, "collect_retry_ms": 500}


def behind(stage: Stage, *names: str) -> None:
    """Write keys that node 3 has lost from its disk while it was down."""
    for key, name in enumerate(names):
        assert stage.put(name, at=1, key=key, w=3).stored
    stage.run(SECOND)
    stage.kill(3)
    for key in range(len(names)):
        stage.forget(3, key)
    stage.machine(3).start()


def holds(stage: Stage, node: int, *names: str) -> bool:
    return all(stage.held(node, key) == [name] for key, name in enumerate(names))


def said(stage: Stage, *kinds: type[Message], since_us: int = 0) -> int:
    """Return how many messages of these kinds came to nodes."""
    return sum(
        isinstance(message, kinds)
        for frame in stage.world.carried
        if frame.at_us >= since_us
        for message in decode_payload(frame.data[4:])
    )


def forgotten(stage: Stage, *nodes: int) -> bool:
    return all(stage.record(node) == EMPTY for node in nodes)


# -- owners that agree -----------------------------------------------------------------------------


@scenario(13, "a lost disk is filled up without a read")
def test_a_disk_that_was_lost_is_filled_up_though_nobody_reads() -> None:
    stage = Stage(keys=3, **COMPARING)
    for key in range(3):
        assert stage.put(f"a{key}", key=key).stored
    stage.kill(2)
    stage.lose_disk(2)
    stage.restart(2)

    assert stage.until(lambda: holds(stage, 2, "a0", "a1", "a2"), 30 * SECOND)
    stage.settle()


@scenario(45, "an exchange and a put at one moment")
def test_an_exchange_and_puts_at_one_moment_end_in_equal_copies() -> None:
    stage = Stage(keys=2, **COMPARING)
    behind(stage, "a", "b")

    assert stage.until(lambda: said(stage, Sums) > 0)
    blind, other = stage.ask_put("c", at=3), stage.ask_put("d", at=2)
    stage.answered(blind, other)

    both = ["a", "c", "d"]
    assert stage.until(lambda: all(stage.held(node) == both for node in (1, 2, 3)), 30 * SECOND)
    stage.settle()


@scenario(55, "mended without a read")
def test_an_owner_gets_what_a_stand_in_took_with_it_though_nobody_reads() -> None:
    stage = Stage(5, **COMPARING)
    first, second, third, stand_in = stage.owners()[:4]
    stage.kill(third)
    stage.run(3 * SECOND)
    assert stage.put("a", at=first).stored
    assert stage.hints(stand_in) == 1
    stage.kill(stand_in)
    stage.machine(stand_in).gone = True
    stage.kill(first)
    stage.restart(first, third)

    assert stage.until(lambda: stage.held(third) == ["a"], 30 * SECOND)
    assert stage.held(second) == ["a"]


HARM: dict[str, Callable[[bytes], bytes]] = {
    "half written": lambda saved: saved[: len(saved) // 2],
    "damaged": lambda saved: saved[:-1] + bytes((saved[-1] ^ 1,)),
    "empty": lambda saved: b"",
}


@scenario(58, "a tree that is wrong")
@pytest.mark.parametrize("harm", ["deleted", *HARM])
def test_a_tree_that_cannot_be_used_is_made_anew_and_removes_nothing(harm: str) -> None:
    stage = Stage(**COMPARING)
    assert stage.put("a").stored
    stage.run(2 * SECOND)
    right = stage.node(1).local.trees.root(stage.partition())
    stage.machine(1).end(down_us=1_000_000)
    disk = stage.machine(1).disk
    saved = disk.visible[TREES]
    assert isinstance(saved, bytes)
    if harm == "deleted":
        del disk.visible[TREES], disk.safe[TREES]
    else:
        disk.visible[TREES] = disk.safe[TREES] = HARM[harm](saved)
    assert stage.until(lambda: stage.is_up(1))

    trees = stage.node(1).local.trees
    assert trees.wrong
    assert stage.until(lambda: not trees.wrong, 30 * SECOND)
    assert trees.root(stage.partition()) == right
    assert all(stage.held(node) == ["a"] for node in (1, 2, 3))
    stage.settle()


@scenario(59, "one damaged object during a rebuild")
def test_a_damaged_copy_holds_up_no_tree_and_is_mended_though_nobody_reads() -> None:
    stage = Stage(keys=3, **COMPARING)
    for key in range(3):
        assert stage.put(f"a{key}", key=key).stored
    stage.run(2 * SECOND)
    stage.kill(1)
    stage.rot(1, key=1)
    stage.restart(1)

    assert stage.until(lambda: not stage.node(1).local.trees.wrong, 30 * SECOND)
    assert stage.until(lambda: holds(stage, 1, "a0", "a1", "a2"), 30 * SECOND)
    stage.settle()


@scenario(60, "trees of another shape")
def test_trees_of_another_shape_are_not_compared() -> None:
    stage = Stage(**COMPARING)
    behind(stage, "a")
    stage.kill(3)
    machine = stage.machine(3)
    own = machine.config
    machine.config = msgspec.structs.replace(own, leaf_bits=9)
    stage.restart(3)
    before = said(stage, Sums, Summed, Entries, Differing)
    stage.run(10 * SECOND)

    assert said(stage, Rooted) > 0
    assert said(stage, Sums, Summed, Entries, Differing) == before
    assert stage.held(3) == [] and stage.held(1) == ["a"]

    machine.stop()
    machine.config = own
    stage.restart(3)
    assert stage.until(lambda: stage.held(3) == ["a"], 30 * SECOND)


@scenario(61, "an exchange is broken off at each step")
@pytest.mark.parametrize("kind", [Rooted, Sums, Summed, Entries, Differing, Store])
@pytest.mark.parametrize("node", [2, 3])
def test_an_exchange_that_is_broken_off_at_any_step_goes_on_later(
    kind: type[Message], node: int
) -> None:
    stage = Stage(keys=2, **COMPARING)
    behind(stage, "a", "b")
    at = stage.world.now

    if stage.until(lambda: said(stage, kind, since_us=at) > 0, 3 * SECOND):
        stage.machine(node).stop()
        stage.run(SECOND)
        stage.restart(node)

    assert stage.until(lambda: holds(stage, 3, "a", "b"), 60 * SECOND)
    assert stage.until(lambda: not any(stage.node(n).repairs.running for n in (1, 2, 3)))
    stage.settle()


@scenario(62, "roots are all that travels at rest")
def test_owners_that_agree_tell_each_other_roots_and_nothing_else() -> None:
    stage = Stage(keys=4, **COMPARING)
    for key in range(4):
        assert stage.put(f"a{key}", key=key).stored
    stage.run(5 * SECOND)
    since = stage.world.now
    stage.run(20 * SECOND)

    assert said(stage, Rooted, since_us=since) > 0
    assert said(stage, Sums, Summed, Entries, Differing, Store, since_us=since) == 0


@scenario(63, "what differs is handed on, and nothing else")
@pytest.mark.parametrize("missing", [1, 12])
def test_owners_hand_on_what_differs_once_or_twice_and_nothing_else(missing: int) -> None:
    stage = Stage(keys=12, **COMPARING)
    for key in range(missing, 12):
        assert stage.put(f"a{key}", key=key).stored
    stage.run(5 * SECOND)
    behind(stage, *(f"a{key}" for key in range(missing)))
    since = stage.world.now
    names = [f"a{key}" for key in range(12)]
    assert stage.until(lambda: holds(stage, 3, *names), 30 * SECOND)
    stage.run(5 * SECOND)

    handed = [
        key
        for frame in stage.world.carried
        if frame.at_us >= since
        for message in decode_payload(frame.data[4:])
        if isinstance(message, Differing | Store)
        for key in (
            [key for key, _ in message.items] if isinstance(message, Differing) else [message.key]
        )
    ]
    assert len(set(handed)) == missing
    assert len(handed) <= 2 * missing  # two others may each see that it lacks them


# -- what is forgotten for good --------------------------------------------------------------------


@scenario(47, "a clock goes with its tombstone")
def test_the_next_life_of_a_collected_key_begins_with_a_clock_of_one_entry() -> None:
    stage = Stage(**COMPARING, **COLLECTING)
    seen = [stage.put(f"a{node}", at=node).seen for node in (1, 2, 3)]
    assert len(stage.record(1).clock) > 1 and seen
    assert stage.delete("d", seen=stage.get(r=3).seen).stored

    assert stage.until(lambda: forgotten(stage, 1, 2, 3), 60 * SECOND)
    assert stage.put("b", at=2).stored
    assert len(stage.record(2).clock) == 1
    stage.settle()


@scenario(49, "collection waits for who was away")
def test_a_tombstone_waits_for_an_owner_that_is_down_and_goes_when_it_is_back() -> None:
    stage = Stage(**COMPARING, **COLLECTING)
    first = stage.put("a", w=3)
    stage.kill(3)
    assert stage.delete("d", seen=first.seen).stored
    stage.run(60 * SECOND)
    assert stage.held(1) == stage.held(2) == ["d"]
    stage.restart(3)

    assert stage.until(lambda: forgotten(stage, 1, 2, 3), 60 * SECOND)
    assert stage.get(r=3).values == []
    stage.settle()


@scenario(50, "an old delete comes after the key was collected and made anew")
def test_frames_of_a_delete_from_before_its_collection_do_not_take_the_next_life() -> None:
    stage = Stage(**COMPARING, **COLLECTING)
    first = stage.put("a")
    assert stage.delete("d", seen=first.seen).stored
    assert stage.until(lambda: forgotten(stage, 1, 2, 3), 60 * SECOND)
    old = list(stage.world.carried)
    assert stage.put("b", w=3).stored

    for frame in old:
        if any(isinstance(each, Store | Differing) for each in decode_payload(frame.data[4:])):
            stage.replay(frame)
    stage.run(5 * SECOND)

    assert stage.get(r=3).values == ["b"]
    stage.settle()


@scenario(51, "collection waits for who keeps an older hint")
def test_a_tombstone_waits_for_a_stand_in_with_an_older_hint_that_brings_nothing_back() -> None:
    stage = Stage(5, **COMPARING, **COLLECTING)
    first, second, third, stand_in = stage.owners()[:4]
    stage.kill(third)
    stage.run(3 * SECOND)
    put = stage.put("a", at=first)
    assert stage.hints(stand_in) == 1
    stage.kill(stand_in)
    stage.restart(third)
    assert stage.delete("d", at=first, seen=put.seen).stored
    stage.run(60 * SECOND)
    assert stage.held(first) == ["d"]
    stage.restart(stand_in)

    assert stage.until(lambda: not stage.hints(), 60 * SECOND)
    assert stage.until(lambda: forgotten(stage, first, second, third), 60 * SECOND)
    assert stage.get(at=first, r=3).values == []
    stage.settle()
