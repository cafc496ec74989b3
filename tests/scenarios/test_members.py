"""G: members that come and go, while clients read and write, and machines die at the worst moment.

``settle`` and ``judge_end`` ask at the end of each story that every key is on exactly its owners.
"""

from __future__ import annotations

import random

import pytest
from tests.scenarios.stage import MINUTE, SECOND, Stage, scenario

from everwrite.core.cluster.members import decode_known
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages.members import IN, LEAVING, REMOVED, News, Rows, Summary
from everwrite.core.messages.requests import PutReply
from everwrite.core.wire import decode_payload
from everwrite.sim.rest import judge_end

KEYS = 12
SLOW = {"slice_keys": 1, "move_bytes_per_s": 40, "moves_max": 1, "move_every_ms": 20}
"""Partitions move one by one, and slowly: there is time for anything to happen meanwhile."""
AT_EASE = 5 * MINUTE


def filled(stage: Stage) -> None:
    for key in range(KEYS):
        stage.put(f"w{key}", 1 + key % 3, key=key, w=3)


def at_rest(stage: Stage) -> None:
    assert stage.until(lambda: not stage.world.unrest(), AT_EASE), stage.world.unrest()


def ends_well(stage: Stage, through: int) -> None:
    """All is where it belongs, and nothing of what ``filled`` wrote is missing."""
    at_rest(stage)
    for key in range(KEYS):
        assert f"w{key}" in stage.get(through, key=key, r=3).values
    stage.settle()
    judge_end(stage.world)


@scenario(53)
def test_hints_for_a_node_that_is_replaced_go_to_whoever_owns_its_keys_now() -> None:
    stage = Stage(4, spares=1, keys=KEYS, changing=True)
    filled(stage)
    dead = stage.owners(0)[0]
    others = [node for node in (1, 2, 3, 4) if node != dead]
    stage.kill(dead)
    for key in range(KEYS):
        stage.put(f"late {key}", others[key % 3], key=key, seen=stage.get(others[0], key=key).seen)
    stage.run(5 * SECOND)
    assert stage.hints() > 0, "they wait for one that never comes back"

    stage.join(5, through=others[0])
    stage.remove(dead, at=others[0])
    at_rest(stage)

    assert stage.hints() == 0
    for key in range(KEYS):
        assert stage.get(5, key=key, r=3).values == [f"late {key}"]
    stage.settle()
    judge_end(stage.world)


@scenario(65)
def test_twenty_nodes_that_join_at_once_become_one_ring_and_nothing_is_lost() -> None:
    stage = Stage(3, spares=20, keys=KEYS, changing=True)
    filled(stage)
    newcomers = list(range(4, 24))
    for node in newcomers:
        stage.join(node, through=1 + node % 3)
    stage.run(300)
    for key in range(KEYS):  # in the midst of it
        assert stage.put(f"meanwhile {key}", 1 + key % 3, key=key).ok

    at_rest(stage)

    everybody = range(1, 24)
    assert len(stage.views(*everybody)) == 1
    assert {len(stage.node(node).local.members) for node in everybody} == {23}
    assert sum(len(stage.served(node)) for node in everybody) == 3 * 16
    assert any(stage.served(node) for node in newcomers)
    ends_well(stage, through=23)


@scenario(66)
def test_a_node_that_joins_one_side_of_a_cut_changes_nothing_for_the_other_until_it_ends() -> None:
    stage = Stage(5, spares=1, keys=KEYS, changing=True)
    filled(stage)
    before = stage.views(1, 2, 3, 4, 5)
    here, there = {1, 2, 6}, {3, 4, 5}
    stage.split(here, there)
    stage.join(6, through=1)
    stage.run(20 * SECOND)

    assert stage.frames_cut > 0
    assert stage.views(3, 4, 5) == before, "the other side has not heard of it"
    assert stage.views(1, 2, 6) != before
    for node in (3, 4, 5):  # who was to give way beyond the cut, serves and goes on to
        assert stage.served(node) >= set(
            stage.world.placement.owned()[stage.machine(node).me.node_id]
        )
    late = [stage.put(f"cut {node}", node, key=node, w=1) for node in (1, 2, 3, 4, 5, 6)]
    assert all(put.ok for put in late)

    stage.unite(here, there)
    at_rest(stage)
    assert len(stage.views(1, 2, 3, 4, 5, 6)) == 1 and stage.served(6)
    for node in (1, 2, 3, 4, 5, 6):
        assert stage.get(6, key=node, r=3).values == sorted({f"w{node}", f"cut {node}"})
    ends_well(stage, through=6)


def half_joined(stage: Stage) -> set[int]:
    """Node 4 joins, and dies when it serves half of what it is to own; return what it serves."""
    stage.join(4)
    owned = 0

    def half() -> bool:
        nonlocal owned
        core = stage.machine(4).node
        owned = core.local.routes.owned.bit_count() if core is not None else 0
        return owned > 1 and len(stage.served(4)) == owned // 2

    assert stage.until(half, AT_EASE)
    served = stage.served(4)
    assert 0 < len(served) < owned
    stage.kill(4)
    return served


@scenario(66)
@pytest.mark.parametrize("power", [False, True])
def test_a_joiner_that_dies_half_way_goes_on_where_it_was(power: bool) -> None:
    stage = Stage(3, spares=1, keys=KEYS, changing=True, **SLOW)
    filled(stage)
    served = half_joined(stage)
    if power:
        stage.cut_power(4)
    for key in range(KEYS):
        put = stage.put(f"without it {key}", 1 + key % 3, key=key)
        assert put.stored.owners + put.stored.fallbacks >= 2 and put.took_ms < SECOND
        assert f"w{key}" in stage.get(1 + key % 3, key=key).values

    stage.restart(4)
    assert stage.served(4) >= served, "what it had proved it has proved"
    ends_well(stage, through=4)


@scenario(66)
def test_a_joiner_that_died_half_way_for_good_is_removed_and_leaves_no_gap() -> None:
    stage = Stage(4, spares=1, keys=KEYS, changing=True, **SLOW)
    filled(stage)
    stage.join(5)
    assert stage.until(lambda: len(stage.served(5)) >= 3, AT_EASE)
    stage.kill(5)
    stage.run(5 * SECOND)
    stage.remove(5)

    at_rest(stage)
    assert sum(len(stage.served(node)) for node in (1, 2, 3, 4)) == 3 * 16
    ends_well(stage, through=4)


@scenario(67)
@pytest.mark.parametrize("dies", ["leaver", "receiver"])
def test_whoever_dies_while_a_node_leaves_the_leave_ends_well_when_it_is_back(dies: str) -> None:
    stage = Stage(4, keys=KEYS, changing=True, **SLOW)
    filled(stage)
    leaver = stage.owners(0)[0]
    gains = {node: len(stage.served(node)) for node in (1, 2, 3, 4) if node != leaver}
    others = list(gains)
    stage.rule(leaver, LEAVING, at=others[0])
    grown = []

    def some_moved() -> bool:
        grown[:] = [node for node in others if len(stage.served(node)) > gains[node]]
        return bool(grown)

    assert stage.until(some_moved, AT_EASE)
    assert stage.is_up(leaver) and stage.served(leaver), "it is in the midst of it"
    victim = leaver if dies == "leaver" else grown[0]
    stage.kill(victim)
    stage.cut_power(victim)
    alive = [node for node in (1, 2, 3, 4) if node != victim]
    for key in range(KEYS):
        assert stage.put(f"meanwhile {key}", alive[key % 3], key=key).ok
    stage.restart(victim)

    at_rest(stage)
    machine = stage.machine(leaver)
    assert machine.retired and machine.node is None, "it ended by itself"
    gone = machine.me.node_id
    stage.run(3 * SECOND)
    assert {stage.node(node).local.members.standing(gone) for node in others} == {REMOVED}
    ends_well(stage, through=others[0])


@scenario(67)
def test_a_leaver_that_dies_for_good_is_removed_and_loses_nothing_that_others_had() -> None:
    stage = Stage(5, keys=KEYS, changing=True, **SLOW)
    filled(stage)
    leaver = stage.owners(0)[0]
    others = [node for node in (1, 2, 3, 4, 5) if node != leaver]
    served = len(stage.served(leaver))
    stage.rule(leaver, LEAVING, at=others[0])
    assert stage.until(lambda: 0 < len(stage.served(leaver)) < served, AT_EASE)
    stage.kill(leaver)
    stage.run(5 * SECOND)
    stage.remove(leaver, at=others[1])

    at_rest(stage)
    assert sum(len(stage.served(node)) for node in others) == 3 * 16
    ends_well(stage, through=others[0])


@scenario(68)
@pytest.mark.parametrize("first", [0, 1])
def test_words_on_one_node_that_cross_in_a_cut_come_to_the_same_everywhere(first: int) -> None:
    stage = Stage(5, spares=2, keys=KEYS, changing=True)
    filled(stage)
    here, there = {1, 2, 6}, {3, 4, 5, 7}
    stage.split(here, there)
    words = [lambda: stage.rule(5, LEAVING, at=1), lambda: stage.rule(5, IN, at=3, weight=2.0)]
    words[first]()
    words[1 - first]()
    stage.join(6, through=1)
    stage.join(7, through=3)
    stage.rule(2, IN, at=4, weight=0.5)
    stage.run(10 * SECOND)
    assert stage.frames_cut > 0 and not stage.views(1, 2, 6) & stage.views(3, 4, 5, 7)

    stage.unite(here, there)
    at_rest(stage)

    stage.run(3 * SECOND)  # until the last one knows that all is done
    left = [node for node in range(1, 8) if stage.is_up(node)]
    assert len(left) >= 6 and len(stage.views(*left)) == 1
    gained = [stage.node(node).moves.counters.partitions_gained for node in left]
    versions = [stage.node(node).rounds.members_version for node in left]
    stage.run(MINUTE)
    assert [stage.node(node).rounds.members_version for node in left] == versions
    assert [stage.node(node).moves.counters.partitions_gained for node in left] == gained
    ends_well(stage, through=left[0])


@scenario(68)
def test_a_removal_wins_over_a_later_word_from_beyond_a_cut() -> None:
    stage = Stage(5, keys=KEYS, changing=True)
    filled(stage)
    stage.split({1, 2}, {3, 4, 5})
    stage.remove(5, at=1)
    for weight in (0.5, 1.0, 2.0):
        stage.rule(5, IN, at=3, weight=weight)
    gone = stage.machine(5).me.node_id
    stage.run(3 * SECOND)
    stamps = [stage.node(node).local.members.rulings[gone].stamp for node in (1, 3)]
    assert stamps[0] < stamps[1], "the word that brings it back is the later one"

    stage.unite({1, 2}, {3, 4, 5})
    at_rest(stage)
    standing = {stage.node(node).local.members.standing(gone) for node in (1, 2, 3, 4)}
    assert standing == {REMOVED}
    ends_well(stage, through=3)


@scenario(69)
@pytest.mark.parametrize("change", ["join", "leave"])
def test_a_range_in_motion_takes_every_write_and_every_read_finds_it(change: str) -> None:
    stage = Stage(4, spares=1, keys=KEYS, changing=True, **SLOW)
    filled(stage)
    last = {key: (f"w{key}", stage.get(1, key=key).seen) for key in range(KEYS)}
    if change == "join":
        stage.join(5)
        stage.run(500)
    else:
        stage.rule(4, LEAVING)
        stage.run(20)
    doors = [1, 2, 3, 5 if change == "join" else 4]
    turn = moved = 0
    while stage.world.unrest():
        key, door = turn % KEYS, doors[turn % 4 if change == "join" else turn % 3]
        put = stage.put(f"turn {turn}", door, key=key, seen=last[key][1])
        found = stage.get(doors[(turn + 1) % 3], key=key)
        assert put.stored.owners + put.stored.fallbacks >= 2
        assert found.values == [f"turn {turn}"], "the last write, and nothing beside it"
        assert put.took_ms < SECOND and found.took_ms < SECOND
        last[key] = (f"turn {turn}", found.seen)
        moved += bool(stage.world.unrest())
        turn += 1
        stage.run(20)

    assert moved > 2 * KEYS, "every key was written in the midst of it"
    left = doors if change == "join" else doors[:3]
    assert sum(stage.node(node).moves.counters.partitions_gained for node in left) > 3
    for key in range(KEYS):
        assert stage.get(left[-1], key=key, r=3).values == [last[key][0]]
    stage.settle()
    judge_end(stage.world)


@scenario(71)
def test_old_gossip_brings_back_nobody_who_was_removed_and_nothing_that_was_said_before() -> None:
    stage = Stage(4, spares=1, keys=KEYS, changing=True)
    filled(stage)
    stage.join(5)
    at_rest(stage)
    stage.rule(2, IN, weight=2.0)
    stage.run(3 * SECOND)
    old = [
        frame
        for frame in stage.world.carried
        if any(isinstance(each, News | Rows | Summary) for each in decode_payload(frame.data[4:]))
    ]
    assert any(isinstance(each, News) for frame in old for each in decode_payload(frame.data[4:]))
    stage.kill(4)
    stage.remove(4)
    stage.kill(3)
    stage.restart(3)
    at_rest(stage)
    left = (1, 2, 3, 5)
    views, known = stage.views(*left), {node: _known(stage, node) for node in left}
    assert len(views) == 1 and known[1][2] == 2, "node 3 lives its second life"

    sent = len(stage.world.carried)
    again = [frame for frame in old if frame.to != 3]
    for frame in again * 2:
        stage.replay(frame)
    stage.run(SECOND)

    assert stage.views(*left) == views
    assert {node: _known(stage, node) for node in left} == known
    news = sum(
        isinstance(each, News)
        for frame in stage.world.carried[sent:]
        for each in decode_payload(frame.data[4:])
    )
    assert news <= len(again) * 2, "old news is passed on to nobody"
    ends_well(stage, through=5)


def _known(stage: Stage, node: int) -> dict[int, int]:
    return {
        stage.world.index_of(member.node_id): member.incarnation
        for member in stage.node(node).local.members
    }


@scenario(72)
def test_a_cluster_whose_power_went_amid_a_join_comes_back_in_any_order_and_ends_it() -> None:
    for seed in range(3):
        rng = random.Random(seed)
        stage = Stage(4, spares=2, keys=KEYS, changing=True, seed=seed, **SLOW)
        filled(stage)
        stage.join(5, 6)
        assert stage.until(lambda stage=stage: bool(stage.served(5) | stage.served(6)), AT_EASE)
        assert stage.world.unrest()
        nodes = [1, 2, 3, 4, 5, 6]
        stage.cut_power(*nodes)
        stage.run(MINUTE)
        rng.shuffle(nodes)

        stage.restart(*nodes[:3])
        for key in range(KEYS):
            assert stage.put(f"few {key}", nodes[key % 3], key=key, w=1).ok
        for node in nodes[3:]:
            stage.run(rng.randrange(2 * SECOND))
            stage.restart(node)

        at_rest(stage)
        assert len(stage.views(*nodes)) == 1
        for key in range(KEYS):
            assert stage.get(nodes[5], key=key, r=3).values == [f"few {key}", f"w{key}"]
        ends_well(stage, through=nodes[0])


@scenario(73)
def test_a_rolling_restart_amid_a_join_fails_nothing_after_one_retry() -> None:
    stage = Stage(5, spares=1, keys=KEYS, changing=True, **SLOW)
    filled(stage)
    stage.join(6)
    assert stage.until(lambda: bool(stage.served(6)), AT_EASE)
    assert stage.world.unrest(), "it goes on moving"
    retried = 0
    for node in (1, 2, 3, 4, 5, 6):
        puts = [stage.ask_put(f"{node} {at}", at, key=at) for at in (1, 2, 3, 4, 5, 6)]
        stage.run(1)
        stage.kill(node)
        stage.answered(*puts)
        for put in puts:
            if not isinstance(put.answer, PutReply):
                retried += 1
                assert stage.answered(stage.ask_again(put, node % 6 + 1)).ok
        stage.restart(node)
        stage.run(SECOND)

    assert retried > 0, "some were hit"
    assert [stage.machine(node).incarnation for node in (1, 2, 3, 4, 5, 6)] == [2] * 6
    ends_well(stage, through=6)


@scenario(70)
def test_a_node_that_rejoins_with_a_disk_from_when_it_was_alone_asks_the_others_first() -> None:
    stage = Stage(2, spares=1, keys=KEYS, changing=True)
    stage.remove(2)
    for key in range(KEYS):
        stage.put(f"early {key}", key=key, w=1)
    disk = stage.machine(1).disk
    assert len(decode_known(disk.safe[MEMBERS]).entries) == 1, "its own"
    disk.back_up()
    stage.join(3)
    assert stage.until(lambda: len(stage.served(3)) == 16, AT_EASE)
    stage.kill(1)
    stage.restart(1)
    at_rest(stage)
    for key in range(KEYS):
        stage.put(f"late {key}", 3, key=key, seen=stage.get(3, key=key).seen)

    stage.kill(1)
    assert disk.restore()
    stage.restart(1)
    assert stage.until(lambda: not stage.is_up(1)), "who knows of its later start refuses it"
    assert stage.until(lambda: stage.is_up(1))
    assert stage.served(1) == set()
    at_rest(stage)

    assert len(stage.served(1)) == len(stage.served(3)) == 16
    for key in range(KEYS):
        assert stage.get(1, key=key, r=1).values == [f"late {key}"]
    stage.settle()
    judge_end(stage.world)
