"""G: what a cluster must stand while its members stay the same; test_members.py has the changes."""

from __future__ import annotations

import random

from tests.scenarios.stage import SECOND, Stage, scenario

from everwrite.core.gossip.rounds import MEMBERS


@scenario(72)
def test_a_cluster_that_was_off_serves_as_soon_as_a_few_are_up_and_then_comes_together() -> None:
    rng = random.Random(72)
    for _ in range(10):
        stage = Stage(5, keys=6)
        for key in range(6):
            stage.put(f"before {key}", 1 + key % 5, key=key)
        nodes = [1, 2, 3, 4, 5]
        stage.cut_power(*nodes)
        assert not any(stage.is_up(node) for node in nodes)
        stage.run(60 * SECOND)
        rng.shuffle(nodes)

        stage.restart(*nodes[:2])
        for key in range(6):
            assert stage.put(f"few {key}", nodes[key % 2], key=key, w=1).took_ms < SECOND
        for node in nodes[2:]:
            stage.run(rng.randrange(2 * SECOND))
            stage.restart(node)

        assert stage.until(lambda stage=stage: not stage.world.unrest()), stage.world.unrest()
        for key in range(6):
            assert stage.get(nodes[4], key=key, r=3).values == [f"before {key}", f"few {key}"]
        stage.settle()


@scenario(70)
def test_a_node_with_an_old_list_of_members_learns_the_new_one_and_founds_nothing() -> None:
    stage = Stage(3)
    stage.put("w", 1, w=3)
    stage.run(3 * SECOND)
    disk = stage.machine(3).disk
    assert disk.readable(MEMBERS)
    stage.machine(3).disk.back_up()
    for _ in range(3):
        stage.kill(1)
        stage.restart(1)
    stage.run(3 * SECOND)
    newest = stage.node(2).local.members.get(stage.machine(1).me.node_id)
    assert newest is not None and newest.incarnation == 4

    stage.kill(3)
    new = disk.readable(MEMBERS)
    assert disk.restore() and disk.readable(MEMBERS) != new, "the list on disk is old"
    stage.restart(3)
    stage.run(3 * SECOND)

    views = {stage.node(node).local.routes.placement.digest for node in (1, 2, 3)}
    assert len(views) == 1 and len(stage.node(3).local.members) == 3
    assert stage.node(3).local.members.get(newest.node_id) == newest
    assert stage.get(3, r=3).values == ["w"]
    stage.settle()


@scenario(73)
def test_a_restart_of_one_node_after_the_other_fails_no_write_after_one_retry() -> None:
    stage = Stage(5, keys=4)
    retried = 0
    for round_ in range(2):
        for node in (1, 2, 3, 4, 5):
            puts = [
                stage.ask_put(f"{round_} {node} {at}", at, key=at % 4) for at in (1, 2, 3, 4, 5)
            ]
            stage.run(1)
            stage.kill(node)
            stage.answered(*puts)
            for put in puts:
                if put.broken or not hasattr(put.answer, "owners"):
                    retried += 1
                    assert stage.answered(stage.ask_again(put, node % 5 + 1)).ok
            stage.restart(node)
        for key in range(4):
            stage.put(f"{round_} merged {key}", 1, key=key, seen=stage.get(1, key=key, r=3).seen)

    assert retried > 0, "some were hit"
    assert [stage.machine(node).incarnation for node in (1, 2, 3, 4, 5)] == [3] * 5
    stage.settle()
