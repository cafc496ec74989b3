"""Rulings that ask for a large placement are taken once it is made; until then a node acts as one
that has not heard of them.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.core.gossip.test_rounds import agree, members
from tests.core.world import World

from everwrite.core.cluster import members as members_of_nodes
from everwrite.core.cluster.placement import place
from everwrite.core.gossip import rounds
from everwrite.core.messages.members import IN, LEAVING, Draft, News, Ruling


def slow_world(nodes: int = 5) -> World:
    """Return a cluster whose placements are all too large to be made at once."""
    world = World(nodes, place_at_once=1)
    world.until(lambda: agree(world), ms=5000)
    return world


def ruling(world: World, node: bytes, standing: int, *, weight: float = 1.0) -> Ruling:
    table = members(world, world.ids[0])
    known = table.rulings[node]
    stamp = max(table.next_stamp(), 100 + int(weight))
    return Ruling(node, known.name, standing, known.zone, weight, stamp, b"plan")


def goes_by_its_members(world: World, node: bytes) -> bool:
    """Say whether a node's placement is that of the members that it knows."""
    local = world.nodes[node].local
    cluster = local.cluster
    due = place(local.members.candidates(), cluster.partitions, cluster.replicas)
    return local.routes.placement == due


def test_a_ruling_is_passed_on_at_once_and_taken_with_its_placement() -> None:
    world = slow_world()
    a, e = world.ids[0], world.ids[4]
    before = world.nodes[a].local.routes.placement
    views: set[tuple[bool, bool]] = set()

    def look() -> None:
        for node in world.ids:
            assert goes_by_its_members(world, node)

    world.watch = look
    world.sent.clear()
    world.rule(a, e, LEAVING)
    world.run()

    heard = {target for _, target, message in world.sent if isinstance(message, News)}
    assert len(heard) >= 3  # before any of them could take it
    for node in world.ids:
        views.add((members(world, node).standing(e) == IN, world.nodes[node].local.placer.busy))
    assert views == {(True, True)}
    assert world.nodes[a].local.routes.placement is before

    world.until(lambda: agree(world) and members(world, a).standing(e) == LEAVING, ms=5000)
    assert e not in {each.node_id for each in world.nodes[a].local.routes.placement.candidates}


def test_a_ruling_that_changes_no_candidate_waits_for_nothing() -> None:
    world = slow_world()
    a, e = world.ids[0], world.ids[4]
    same = ruling(world, e, IN)

    world.nodes[a].rounds.publish(News([], [same]))

    assert members(world, a).rulings[e] == same


def test_what_comes_while_others_wait_is_taken_after_them() -> None:
    world = slow_world()
    a, d, e = world.ids[0], world.ids[3], world.ids[4]
    first, second = ruling(world, d, IN, weight=2.0), ruling(world, d, IN, weight=3.0)
    leaves = ruling(world, e, LEAVING)
    draft = Draft(200, b"later", [])

    for each in (News([], [first]), News([], [second, first]), News([], [leaves], draft)):
        world.nodes[a].rounds.publish(each)
    assert members(world, a).standing(e) == IN
    assert members(world, a).draft != draft

    world.until(lambda: members(world, a).standing(e) == LEAVING, ms=5000)
    assert members(world, a).rulings[d] == second
    assert members(world, a).draft == draft
    assert goes_by_its_members(world, a)
    world.until(lambda: agree(world), ms=5000)


def test_a_node_that_wakes_does_no_step_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell does them all, for it knows how long others may wait."""
    world = slow_world()
    a = world.ids[0]
    world.rule(a, world.ids[4], LEAVING)
    local = world.nodes[a].local
    assert local.placer.busy
    steps: list[bool] = []
    monkeypatch.setattr(local.placer, "step", lambda: steps.append(True))

    local.now += local.config.gossip_every_ms
    world.nodes[a].wake()

    assert not steps


def test_no_more_rulings_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = slow_world()
    a, d = world.ids[0], world.ids[3]
    for module in (rounds, members_of_nodes):
        monkeypatch.setattr(module, "RULINGS_MAX", 5 + 2)
    table, said = members(world, a), ruling(world, d, IN, weight=2.0)
    strange = [replace(said, node_id=bytes([90 + n]) * 8, name=f"x{n}") for n in range(4)]
    draft = Draft(200, b"later", [])

    world.nodes[a].rounds.publish(News([], [said]))
    world.nodes[a].rounds.publish(News([], strange[:3]))
    assert table.refused == 1
    world.nodes[a].rounds.publish(News([], [strange[3]], draft))
    assert table.refused == 2
    assert table.draft == draft, "what has room is taken"
    world.nodes[a].rounds.publish(News([], [replace(said, stamp=said.stamp + 1)]))
    assert table.refused == 2, "who is known has room"

    world.until(lambda: not world.nodes[a].local.placer.busy, ms=5000)
    world.until(lambda: table.rulings[d].stamp == said.stamp + 1, ms=5000)
    assert set(table.rulings) == {*world.ids, *(each.node_id for each in strange[:2])}
    assert table.refused == 2
    assert goes_by_its_members(world, a)


def test_the_same_news_again_and_again_are_passed_on_once() -> None:
    world = slow_world()
    a, b, e = world.ids[0], world.ids[1], world.ids[4]
    news = News([], [ruling(world, e, LEAVING)])
    world.nodes[a].receive(b, news)
    world.run()
    world.sent.clear()

    for _ in range(10):
        world.nodes[a].receive(b, news)
    world.run()

    assert not [message for _, _, message in world.sent if isinstance(message, News)]


@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_a_node_that_dies_while_rulings_wait_hears_of_them_again(at_once: int) -> None:
    world = World(5, place_at_once=at_once)
    world.until(lambda: agree(world), ms=5000)
    a, e = world.ids[0], world.ids[4]
    world.rule(a, e, LEAVING)
    world.run()
    world.kill(a)
    world.start(a)

    world.until(lambda: agree(world) and members(world, a).standing(e) == LEAVING, ms=5000)

    assert goes_by_its_members(world, a)


def test_a_node_joins_a_cluster_whose_placements_take_their_time() -> None:
    world = slow_world(4)

    fresh = world.join()

    world.until(
        lambda: agree(world) and members(world, world.ids[0]).standing(fresh) == IN, ms=10_000
    )
    assert all(goes_by_its_members(world, node) for node in world.ids)
