"""Rounds: what is said when the list of members changes, and to whom it goes unasked."""

from __future__ import annotations

from msgspec.structs import replace
from tests.core.world import World

from everwrite.core.messages import Member, Members


def entry(world: World, node: bytes) -> Member:
    found = world.nodes[node].local.members.get(node)
    assert found is not None
    return found


def test_a_change_of_one_member_is_passed_on_to_all_without_the_rest_of_the_list() -> None:
    world = World(5)
    a, b, c, d, e = world.ids
    restarted = replace(entry(world, b), incarnation=2)
    world.sent.clear()

    world.nodes[a].receive(b, Members([restarted]))
    world.run()

    assert {target for source, target, _ in world.sent if source == a} == {c, d, e}
    assert all(message.members == [restarted] for message in world.messages(Members))
    for node in (a, c, d, e):
        assert restarted in list(world.nodes[node].local.members)


def test_news_of_a_member_whose_zone_is_kept_says_the_zone_that_is_kept() -> None:
    world = World(3)
    a, b, c = world.ids
    world.put(a, b"data")
    before = entry(world, b)
    world.sent.clear()

    world.nodes[a].receive(b, Members([replace(before, incarnation=2, zone="elsewhere")]))
    world.run()

    news = world.messages(Members, to=c)
    assert news[0].members == [replace(before, incarnation=2)]


def test_lists_that_go_out_unasked_in_one_second_go_to_different_peers() -> None:
    world = World(7)
    world.advance(3000)
    world.sent.clear()

    world.advance(1000)

    targets = [target for _, target, message in world.sent if isinstance(message, Members)]
    assert sorted(targets) == sorted(world.ids)


def test_in_so_many_seconds_as_there_are_peers_a_list_goes_to_each_of_them() -> None:
    world = World(4)
    a, b, c, d = world.ids
    world.sent.clear()

    world.advance(3000)

    told = {
        target for source, target, message in world.sent if source == a and type(message) is Members
    }
    assert told == {b, c, d}
