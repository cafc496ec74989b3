"""C: what the network does to nodes. Its frames are the real ones; its faults are counted.

Connections (half open, slow, cut in the middle of a frame) are tested with real sockets, in
test_connections.py and tests/server.
"""

from __future__ import annotations

import random
from itertools import combinations

import msgspec
import pytest
from tests.scenarios.stage import HOUR, SECOND, Stage, scenario

from everwrite.core.messages.members import News, Pong, Rows, Summary
from everwrite.core.messages.requests import Store, StoreReply
from everwrite.core.wire import decode_payload
from everwrite.sim.options import draw
from everwrite.sim.run import run_seed

NODES = {1, 2, 3, 4, 5}
GOSSIP = (Summary, Rows, News)
SPLITS = [set(side) for size in (1, 2) for side in combinations(sorted(NODES), size)]


@scenario(27)
def test_both_sides_of_every_split_of_five_nodes_take_writes_and_come_together() -> None:
    assert len(SPLITS) == 15
    stage = Stage(5)
    for side in SPLITS:
        rest = NODES - side
        before = stage.frames_cut
        stage.split(side, rest)
        stage.answered(
            *[stage.ask_put(f"{sorted(side)} at {node}", node, w=1) for node in sorted(NODES)]
        )
        # Once the silence was noticed too, when nobody waits for the other side any more.
        assert stage.until(
            lambda side=side, rest=rest: all(
                not stage.up_in_the_eyes_of(node) & (rest if node in side else side)
                for node in NODES
            )
        )
        late = [stage.put(f"{sorted(side)} later at {node}", node, w=1) for node in sorted(NODES)]
        assert all(put.took_ms < 100 for put in late)
        assert stage.frames_cut > before

        stage.unite(side, rest)
        # Who was slow to answer in each of many splits stays out for longer each time.
        assert stage.until(lambda: not stage.world.unrest(), 90 * SECOND), stage.world.unrest()
        found = stage.get(1, r=3)
        assert len(found.values) >= 10, "nothing of either side is missing"
        stage.put(f"{sorted(side)} merged", 2, seen=found.seen, w=3)

    stage.settle()


@scenario(28)
def test_a_link_that_is_dead_one_way_for_good_keeps_no_other_node_from_its_work() -> None:
    stage = Stage(5)
    deaf = 5
    for node in (1, 2, 3, 4):
        stage.cut_one_way(node, deaf)  # it is heard, and hears nothing
    stage.run(5 * SECOND)
    assert stage.up_in_the_eyes_of(deaf) == set()
    assert stage.up_in_the_eyes_of(1) == {2, 3, 4}, "it is heard, but answers nothing: passed over"

    events = stage.world.events
    for turn in range(40):
        put = stage.put(f"w{turn}", 1 + turn % 4, seen=stage.get(1 + turn % 4).seen)
        assert put.ok and put.took_ms < 1000
        stage.run(500)
    assert stage.world.events - events < 40_000, "no storm of tries"
    assert stage.put("from the deaf one", deaf, w=1).ok

    stage.settle()
    assert stage.frames_cut > 100


@scenario(29)
def test_two_nodes_that_only_reach_each_other_through_a_third_lose_nothing() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.cut(a, c)
    stage.run(5 * SECOND)
    assert (stage.up_in_the_eyes_of(a), stage.up_in_the_eyes_of(c)) == ({b}, {b})

    stage.put("at a", a)
    stage.put("at c", c)
    found = stage.get(b, r=3)
    stage.run(100)

    assert found.values == ["at a", "at c"]
    assert stage.held(a) == stage.held(c) == ["at a", "at c"], "they met through the third"
    assert stage.frames_cut > 0
    stage.settle()


@scenario(30)
def test_a_link_that_breaks_each_second_brings_no_flood_of_members_or_hints() -> None:
    stage = Stage(4, keys=4)
    stage.run(2 * SECOND)
    began = len(stage.world.carried)
    versions = [stage.node(node).rounds.members_version for node in (1, 2, 3, 4)]
    stored = 0
    for second in range(60):
        stage.world.break_link(0, 1)
        stage.put(f"w{second}", 1 + second % 4, key=second % 4)
        stored += 1
        stage.run(SECOND)

    talk = deliveries = 0
    for frame in stage.world.carried[began:]:
        for message in decode_payload(frame.data[4:]):
            talk += isinstance(message, GOSSIP)
            deliveries += isinstance(message, Store) and message.rid != 0
    broken = 60
    # Each break: both sides ask whether the other knows the same. Each second: each node asks one.
    assert talk <= 2 * broken + 4 * 61 + 4 * 3
    assert deliveries <= 4 * stored, "two copies for each write, and a hint now and then"
    assert stage.hints() <= 4
    assert [stage.node(node).rounds.members_version for node in (1, 2, 3, 4)] == versions
    stage.settle()


@scenario(31)
def test_links_clogged_one_by_one_and_freed_in_another_order_lose_nothing() -> None:
    stage = Stage(5, keys=3)
    rng = random.Random(31)
    links = [(one, other) for one in range(5) for other in range(5) if one != other]
    clogged = stage.world.network.clogged
    slowest = 0.0
    for turn in range(10):
        chosen = rng.sample(links, 8)
        for link in chosen:
            clogged[link] = rng.randint(50_000, 900_000)
            put = stage.put(f"{turn} {link}", 1 + link[0], key=turn % 3, w=2)
            slowest = max(slowest, put.took_ms)
        found = stage.get(1, key=turn % 3)
        stage.put(f"{turn} merged", 2, key=turn % 3, seen=found.seen)
        rng.shuffle(chosen)
        for link in chosen:
            del clogged[link]
            stage.run(20)

    assert slowest > 50, "the clogs were felt"
    stage.settle()


@scenario(32)
@pytest.mark.parametrize("seed", range(3))
def test_loss_duplicates_reordering_and_late_frames_are_survived_all_at_once(seed: int) -> None:
    options = msgspec.structs.replace(
        draw(seed),
        nodes=5,
        replicas=3,
        chaos_ms=60_000,
        operations=400,
        clients=4,
        keys=4,
        faults={"loss": 0.3, "duplicate": 0.5, "reorder": 0.3, "replay": 0.1},
        knobs={},
    )

    verdict = run_seed(seed, options, [])

    assert not verdict.findings
    assert min(verdict.faults[kind] for kind in options.faults) > 300
    assert verdict.operations["put"]["ok"] > 50


@scenario(33)
@pytest.mark.parametrize("left", [["gone"], []], ids=["a tombstone stands", "it was collected"])
def test_all_frames_of_an_hour_ago_bring_nothing_back_and_set_nothing_back(left: list[str]) -> None:
    collect_every_ms = 2 * HOUR if left else 10 * SECOND
    stage = Stage(4, ping_every_ms=60_000, down_after_ms=200_000, collect_every_ms=collect_every_ms)
    a, b, c, spare = stage.owners()
    first = stage.put("old", a, w=3)
    stage.put("old too", b, w=3)
    stage.kill(c)
    stage.put("for one that is down", a, w=3)
    assert stage.hints(spare) == 1
    stage.restart(c)
    assert stage.until(lambda: stage.hints() == 0)
    frames = list(stage.world.carried)
    kinds = {type(message) for frame in frames for message in decode_payload(frame.data[4:])}
    assert {Store, StoreReply, Summary, News} <= kinds

    everything = stage.get(a, r=3)
    assert everything.values == ["for one that is down", "old", "old too"]
    gone = stage.delete("gone", a, seen=everything.seen, w=3)
    stage.kill(b)
    stage.restart(b)
    incarnations = {node: _incarnations(stage, node) for node in (a, b, c, spare)}
    stage.run(HOUR)
    for frame in frames:
        stage.replay(frame)
        stage.run(1)
    stage.run(SECOND)

    assert first.ok and gone.ok
    assert [stage.held(node) for node in (a, b, c)] == [left] * 3
    assert stage.get(c, r=3).values == []
    assert {node: _incarnations(stage, node) for node in (a, b, c, spare)} == incarnations
    assert stage.hints() == 0 or stage.until(lambda: stage.hints() == 0)
    stage.settle()


@scenario(71)
def test_an_old_word_about_a_member_never_replaces_a_newer_one() -> None:
    stage = Stage(3)
    old = [
        frame
        for frame in stage.world.carried
        if any(isinstance(each, GOSSIP) for each in decode_payload(frame.data[4:]))
    ]
    stage.kill(3)
    stage.restart(3)
    stage.run(3 * SECOND)
    now = {node: _incarnations(stage, node) for node in (1, 2, 3)}
    assert now[1][3] == 2, "a second life"

    sent = len(stage.world.carried)
    for frame in old * 3:
        stage.replay(frame)
    stage.run(100)

    assert {node: _incarnations(stage, node) for node in (1, 2, 3)} == now
    answers = [
        message
        for frame in stage.world.carried[sent:]
        for message in decode_payload(frame.data[4:])
        if not isinstance(message, Pong)
    ]
    assert len(answers) <= 9, "old news is not passed on"
    stage.settle()


def _incarnations(stage: Stage, node: int) -> dict[int, int]:
    return {
        stage.world.index_of(member.node_id) + 1: member.incarnation
        for member in stage.node(node).local.members
    }


@scenario(62)
def test_a_cluster_at_rest_repairs_nothing_and_says_little() -> None:
    stage = Stage(5, keys=8)
    for key in range(8):
        stage.put(f"w{key}", 1 + key % 5, key=key, w=3)
    stage.run(10 * SECOND)
    began = len(stage.world.carried)
    counters = [stage.node(node).local.counters for node in sorted(NODES)]
    stores = sum(each.stores for each in counters)

    stage.run(60 * SECOND)

    assert sum(each.stores for each in counters) == stores
    assert sum(each.read_repairs + each.hints_delivered for each in counters) == 0
    frames = len(stage.world.carried) - began
    # Each pair: two pings a second at most, with their answers. Each node: one list a second.
    assert frames <= 60 * (10 * 2 * 2 * 2 + 5)
