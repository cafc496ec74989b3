"""What is said of partitions on their way: also of what is only offered, and why one waits."""

from __future__ import annotations

from tests.core.moving.towns import settled_town
from tests.core.world import World

from everwrite.core.cluster.holdings import partitions_in
from everwrite.core.messages.members import REMOVED
from everwrite.core.messages.moving import Match, Pull
from everwrite.core.moving.progress import Progress


def rows(world: World, node: bytes, kind: str) -> list[Progress]:
    return [row for row in world.nodes[node].moves.progress() if row.kind == kind]


def test_what_a_node_offers_to_the_other_owners_is_shown() -> None:
    world = settled_town(3)
    a, b, _c = world.ids
    moves = world.nodes[a].moves
    moves._offers = 0b111
    assert moves.busy
    assert [row.waiting for row in rows(world, a, "offer")] == ["its turn"] * 3
    world.lose = lambda source, target, message: isinstance(message, Match)
    world.advance(500)

    shown = rows(world, a, "offer")
    assert [row.partition for row in shown] == [0, 1, 2]
    assert [row.phase for row in shown] == ["compares", "compares", "waits"]
    assert shown[2].waiting == "its turn"

    world.kill(b)
    assert {row.waiting for row in rows(world, a, "offer") if row.phase == "waits"} == {
        "n2 is down"
    }
    world.lose = lambda source, target, message: False
    world.start(b)
    world.settle()
    assert rows(world, a, "offer") == []


def test_what_waits_for_its_turn_is_told_from_what_waits_for_a_node_that_is_down() -> None:
    world = settled_town(4, moves_max=1)
    a, b, c, d = world.ids
    world.lose = lambda source, target, message: isinstance(message, Pull)
    world.kill(d)
    world.rule(a, d, REMOVED)
    world.advance(500)
    waiting = [row for node in (a, b, c) for row in rows(world, node, "gain") if row.waiting]
    assert waiting and {row.waiting for row in waiting} == {"its turn"}

    world.kill(c)
    reasons = {row.waiting for row in rows(world, a, "gain") if row.phase == "waits"}
    assert reasons == {"n3 is down"}, "for all of them, not only for the first that were tried"

    world.start(c)
    moves = world.nodes[a].moves
    left = [row for row in rows(world, a, "gain") if row.waiting]
    assert left and "n3 is down" not in {row.waiting for row in left}
    assert partitions_in(world.nodes[a].local.routes.owned) and moves.busy
    world.lose = lambda source, target, message: False
    world.settle()
