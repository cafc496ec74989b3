"""Gossip: how all nodes come to know the same, whatever gets lost; how a node gets in and out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.world import World

from everwrite.core.cluster.members import MemberTable, decode_known
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages.members import (
    IN,
    LEAVING,
    REMOVED,
    Draft,
    Member,
    News,
    Rows,
    Ruling,
    Summary,
)
from everwrite.core.messages.message import Message

GOSSIP = (News, Rows, Summary)


def members(world: World, node: bytes) -> MemberTable:
    return world.nodes[node].local.members


def entry(world: World, node: bytes) -> Member:
    found = members(world, node).get(node)
    assert found is not None
    return found


def agree(world: World) -> bool:
    """Say whether all nodes that belong to the cluster know the same of its members."""
    here = [node for node in world.ids if not world.nodes[node].rounds.out_for_good]
    return len({members(world, node).digest() for node in here}) == 1


def losing(world: World, *kinds: type[Message]) -> None:
    world.lose = lambda source, target, message: isinstance(message, kinds)


def heal(world: World) -> None:
    world.lose = lambda source, target, message: False


# -- spreading -------------------------------------------------------------------------------------


def test_a_change_is_with_most_nodes_at_once_and_with_all_soon() -> None:
    world = World(12)
    world.until(lambda: agree(world), ms=10_000)
    e = world.ids[4]

    world.nodes[e].rounds.changed_me(zone="elsewhere")
    world.run()

    heard = [node for node in world.ids if members(world, node).get(e) == entry(world, e)]
    assert len(heard) > 8
    assert entry(world, e).zone == "elsewhere"
    world.until(lambda: agree(world), ms=5000)


def test_nodes_that_know_the_same_say_no_more_than_one_summary_each_second() -> None:
    world = World(5)
    world.advance(3000)
    world.sent.clear()

    world.advance(1000)

    gossip = [message for _, _, message in world.sent if isinstance(message, GOSSIP)]
    assert len(gossip) == 5
    assert {type(message) for message in gossip} == {Summary}


def test_news_are_passed_on_to_so_many_peers_and_to_none_twice() -> None:
    world = World(9, gossip_fanout=3)
    a = world.ids[0]
    world.sent.clear()

    world.nodes[a].rounds.changed_me(zone="elsewhere")
    world.run()

    told = [(source, target) for source, target, message in world.sent if type(message) is News]
    assert len(told) == len(set(told)) <= 3 * 9
    assert len([target for source, target in told if source == a]) == 3


def test_each_node_asks_every_peer_sooner_or_later() -> None:
    world = World(6)
    world.sent.clear()

    world.advance(40_000)

    for node in world.ids:
        asked = {
            target
            for source, target, message in world.sent
            if source == node and type(message) is Summary
        }
        assert asked == set(world.ids) - {node}


def test_what_was_lost_comes_with_the_next_rounds() -> None:
    world = World(5)
    losing(world, *GOSSIP)
    world.nodes[world.ids[0]].rounds.changed_me(zone="elsewhere")
    world.advance(5000)
    assert not agree(world)

    heal(world)

    world.until(lambda: agree(world), ms=10_000)


def test_changes_on_both_sides_of_a_cut_come_to_the_same_on_all() -> None:
    world = World(6)
    left, right = set(world.ids[:3]), set(world.ids[3:])
    world.lose = lambda source, target, message: (source in left) != (target in left)
    world.rule(min(left), world.ids[5], LEAVING)
    world.rule(min(right), world.ids[5], REMOVED)
    world.rule(min(right), world.ids[0], LEAVING)
    world.advance(3000)
    assert not agree(world)

    heal(world)
    world.until(lambda: agree(world), ms=10_000)

    assert members(world, world.ids[1]).standing(world.ids[5]) == REMOVED
    assert members(world, world.ids[1]).standing(world.ids[0]) == LEAVING


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), max_size=6),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8),
)
def test_whatever_changed_while_links_were_cut_a_handful_of_rounds_agrees(
    count: int, changes: list[tuple[int, int, bool]], cut: set[tuple[int, int]]
) -> None:
    world = World(count, down_after_ms=60_000)
    ids = world.ids
    links = {(ids[one % count], ids[other % count]) for one, other in cut}
    world.lose = lambda source, target, message: (source, target) in links
    for by, whom, leaves in changes:
        if leaves:
            world.rule(ids[by % count], ids[whom % count], LEAVING)
        else:
            world.nodes[ids[by % count]].rounds.changed_me(port=1000 + whom)
        world.run()

    heal(world)
    world.until(lambda: agree(world), ms=20_000)

    placements = {node.local.routes.placement.digest for node in world.nodes.values()}
    assert len(placements) == 1


def test_a_node_that_was_down_hears_of_all_when_it_is_back() -> None:
    world = World(4)
    a, b, _, d = world.ids
    world.kill(b)
    world.nodes[a].rounds.changed_me(zone="elsewhere")
    world.rule(a, d, LEAVING)
    world.run()

    world.start(b)

    assert members(world, b).standing(d) == LEAVING
    assert members(world, b).get(a) == entry(world, a)


def test_a_draft_spreads_and_nobody_goes_by_it() -> None:
    world = World(4)
    a, *_, d = world.ids
    before = world.nodes[a].local.routes.placement.digest
    draft = Draft(2, b"plan", [replace(members(world, a).rulings[d], standing=REMOVED)])

    world.nodes[a].rounds.publish(News([], [], draft))
    world.run()

    for node in world.nodes.values():
        assert node.local.members.draft == draft
        assert node.local.routes.placement.digest == before


def test_what_a_node_has_heard_is_on_its_disk_when_it_passes_it_on() -> None:
    world = World(4)
    told: set[bytes] = set()

    def check(source: bytes, target: object, message: Message) -> bool:
        if isinstance(message, News) and message.rulings:
            told.add(source)
            (ruling,) = message.rulings
            assert ruling in decode_known(world.state[source][MEMBERS]).rulings
        return False

    world.lose = check
    world.rule(world.ids[0], world.ids[3], LEAVING)
    world.run()

    assert len(told) > 1


def test_a_node_that_acts_on_another_view_is_told_ours_but_not_at_each_request() -> None:
    world = World(3)
    a, b, _ = world.ids
    world.sent.clear()

    for _ in range(50):
        world.nodes[a].rounds.doubt(b)
    world.nodes[a].rounds.doubt(a)
    world.nodes[a].rounds.doubt(7)
    world.run()
    assert len(world.messages(Summary)) == 1

    world.nodes[a].local.now += 100
    world.nodes[a].rounds.doubt(b)
    world.run()

    assert len(world.messages(Summary)) == 2


def test_a_node_that_sends_copies_to_who_takes_none_hears_what_changed() -> None:
    """Its gossip was lost, and the next round is far away: the refusal is what makes it ask."""
    world = World(4, gossip_every_ms=3_600_000)
    a, b, _, d = world.ids
    losing(world, *GOSSIP)
    world.rule(a, d, REMOVED)
    world.nodes[b].rounds.publish(News([], [members(world, a).rulings[d]]))
    world.run()
    heal(world)
    assert not agree(world)

    world.nodes[b].local.strangers.add(world.ids[2])
    world.advance(200)

    assert members(world, world.ids[2]).standing(d) == REMOVED


# -- getting in ------------------------------------------------------------------------------------


def test_a_node_that_wants_in_rules_itself_in_once_it_knows_the_cluster() -> None:
    world = World(3)

    d = world.join()

    assert agree(world)
    ruling = members(world, world.ids[0]).rulings[d]
    assert (ruling.standing, ruling.stamp) == (IN, 2)
    assert ruling.plan
    assert not world.nodes[d].rounds.wants_in


def test_a_node_that_was_told_to_leave_does_not_rule_itself_in_again() -> None:
    world = World(3)
    d = world.join()
    world.rule(world.ids[0], d, LEAVING)
    world.run()
    world.kill(d)

    world.start(d)
    world.nodes[d].rounds.wants_in = True
    world.advance(2000)

    assert members(world, world.ids[0]).standing(d) != IN
    assert not world.nodes[d].rounds.wants_in


def test_a_node_that_nobody_told_of_the_cluster_waits() -> None:
    world = World(3)
    losing(world, *GOSSIP)

    d = world.join()
    world.advance(5000)

    assert world.nodes[d].rounds.wants_in
    assert not members(world, d).rulings
    heal(world)
    world.meet()  # its seeds are dialled again
    world.until(lambda: agree(world), ms=10_000)
    assert members(world, world.ids[0]).standing(d) == IN


def test_two_nodes_that_join_at_once_are_both_in() -> None:
    world = World(3)
    losing(world, *GOSSIP)
    d, e = world.join(), world.join()

    heal(world)
    world.until(lambda: agree(world), ms=20_000)

    assert members(world, world.ids[0]).standing(d) == IN
    assert members(world, world.ids[0]).standing(e) == IN


# -- getting out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("standing", [IN, REMOVED, None])
def test_only_a_node_that_was_told_to_leave_says_that_it_is_out(standing: int | None) -> None:
    world = World(3)
    a, b, _ = world.ids
    if standing is None:
        del members(world, a).rulings[a]
    elif standing == REMOVED:
        world.rule(b, a, REMOVED)
    world.run()
    before = members(world, a).rulings.get(a)

    world.nodes[a].rounds.leave_for_good()
    world.run()

    assert members(world, a).rulings.get(a) == before


def test_a_node_that_left_is_removed_by_the_plan_that_made_it_leave() -> None:
    world = World(4)
    a, *_, d = world.ids
    world.rule(a, d, LEAVING)
    world.run()
    stamp = members(world, a).rulings[d].stamp

    world.nodes[d].rounds.leave_for_good()
    world.run()

    gone: Ruling = members(world, a).rulings[d]
    assert (gone.standing, gone.plan, gone.stamp) == (REMOVED, b"plan", stamp + 1)
    assert world.nodes[d].rounds.out_for_good
    assert members(world, a).get(d) is None


def test_a_removed_node_is_taken_for_down_and_owns_nothing() -> None:
    world = World(4)
    a, *_, d = world.ids
    world.kill(d)

    world.rule(a, d, REMOVED)
    world.run()

    for node in world.ids[:3]:
        local = world.nodes[node].local
        assert d not in local.liveness.up
        assert all(d not in ranked for ranked in local.routes.placement.preference)


def test_the_version_of_the_members_goes_up_when_they_change_and_only_then() -> None:
    world = World(3)
    rounds = world.nodes[world.ids[0]].rounds
    before = rounds.members_version
    world.advance(3000)
    assert rounds.members_version == before

    world.nodes[world.ids[1]].rounds.changed_me(port=9)
    world.run()

    assert rounds.members_version == before + 1


def stored_zone(world: World, node: bytes, of: bytes) -> str:
    """Return what a node's disk says of another node's zone."""
    known = decode_known(world.state[node][MEMBERS])
    return next(each.zone for each in known.entries if each.node_id == of)


def test_what_changes_often_is_written_with_the_next_round_and_not_each_time() -> None:
    world = World(3)
    a, b, _ = world.ids
    for turn in range(5):
        world.nodes[a].rounds.changed_me(zone=f"zone {turn}")
        world.run()
    assert stored_zone(world, b, a) != "zone 4"

    world.advance(1100)

    assert stored_zone(world, b, a) == "zone 4"


def test_members_that_a_full_disk_did_not_take_are_written_when_it_does() -> None:
    world = World(3)
    a, b, c = world.ids
    world.full.add(b)
    world.rule(a, c, LEAVING)
    world.run()
    world.full.clear()

    world.advance(1100)

    known = decode_known(world.state[b][MEMBERS])
    assert {each.node_id: each.standing for each in known.rulings}[c] in (LEAVING, REMOVED)


def test_a_joiner_that_heard_a_part_of_the_news_is_not_in_until_it_lacks_nothing() -> None:
    world = World(5)
    world.until(lambda: agree(world), ms=10_000)
    a, *_, e = world.ids
    known = members(world, e)
    joiner = replace(known.me, node_id=b"newcomer", name="n6", serves=b"", keeps=b"")
    rounds = world.nodes[e].rounds
    local = world.nodes[e].local
    local.members = MemberTable(joiner, known.others())
    local.me = joiner.node_id
    rounds.whole, rounds.wants_in = False, True

    rounds.news(a, News([], [members(world, a).rulings[a]]))
    assert not rounds.whole and joiner.node_id not in local.members.rulings
    rounds.rows(b"stranger", local.members.rows(answer=False))
    assert not rounds.whole, "a node on which nobody has ruled may know as little"
    rounds.rows(a, members(world, a).rows(answer=False))
    assert not rounds.whole, "there is more"

    rounds.news(a, members(world, a).everything())
    rounds.rows(a, members(world, a).rows(answer=False))
    assert rounds.whole and local.members.standing(joiner.node_id) == IN
