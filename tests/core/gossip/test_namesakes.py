"""Two newcomers of one name that come at the same time: one is taken in, the other waits."""

from __future__ import annotations

from msgspec.structs import replace
from tests.core.world import World

from everwrite.core.cluster.members import MemberTable, encode_known
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages.members import IN, REMOVED


def with_twins() -> tuple[World, bytes, bytes]:
    """Return three nodes, and two newcomers named n4 that all meet at once."""
    world = World(3)
    twins = [world._install(4), world._install(5)]
    for twin in twins:
        (entry,) = world._known(twin).entries
        world.state[twin][MEMBERS] = encode_known(MemberTable(replace(entry, name="n4")))
        world._boot(twin, run=world.now)
    world.meet()
    world.advance(5_000)  # they have heard of each other before either is in
    for twin in twins:
        world.nodes[twin].rounds.wants_in = True
    return world, *twins  # type: ignore[return-value]


def test_of_two_newcomers_of_one_name_one_is_taken_in_and_the_other_owns_nothing() -> None:
    world, first, second = with_twins()
    world.advance(20_000)

    for node in world.ids:
        members = world.nodes[node].local.members
        assert members.standing(first) == IN
        assert members.standing(second) is None
    waits = world.nodes[second]
    namesake = waits.rounds.namesake()
    assert namesake is not None and namesake.node_id == first
    assert waits.local.routes.owned == 0
    assert world.nodes[first].rounds.namesake() is None


def test_the_one_that_waits_is_taken_in_when_the_other_is_gone() -> None:
    world, first, second = with_twins()
    world.advance(20_000)
    world.kill(first)

    world.rule(world.ids[0], first, REMOVED)
    world.until(lambda: world.nodes[world.ids[0]].local.members.standing(second) == IN)
    world.settle()

    assert world.nodes[second].rounds.namesake() is None
    assert world.nodes[second].local.routes.owned
