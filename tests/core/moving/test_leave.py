"""A node leaves, or is removed: its copies go to the new owners first, and nothing is lost."""

from __future__ import annotations

import pytest
from tests.core.moving.towns import (
    KEYS,
    Reader,
    Stop,
    kept,
    keys_on,
    owned,
    owners_have,
    partition,
    read,
    served,
    settled_town,
    standing,
    value_of,
)
from tests.core.world import World

from everwrite.core.cluster.holdings import partitions_in
from everwrite.core.cluster.placement import place
from everwrite.core.data.keys import data_key
from everwrite.core.messages.members import IN, LEAVING, REMOVED
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import GaveUp, Match, Matched, Pull, Slice
from everwrite.core.messages.requests import SAME, Put, PutReply, Store
from everwrite.core.records import OWN

# -- leaving ---------------------------------------------------------------------------------------


def test_a_node_that_leaves_hands_everything_over_and_is_then_removed() -> None:
    world = settled_town(4)
    a, *_, d = world.ids
    reader = Reader(world)

    world.rule(a, d, LEAVING)
    world.settle()

    assert reader.check() > 200
    assert standing(world, d) == REMOVED
    assert keys_on(world, d) == []
    assert served(world, d) == kept(world, d) == set()
    owners_have(world)


def staying(world: World, key: bytes) -> list[bytes]:
    """Return who owns a key and will do so when the node has left that would stand in next."""
    before = world.nodes[world.ids[0]].local.routes.placement
    leaver = world.order(key)[3]
    rest = [candidate for candidate in before.candidates if candidate.node_id != leaver]
    after = place(rest, before.partitions, before.replicas)
    owners = after.owners(after.partition_of(key))
    return [node for node in world.order(key)[:3] if node in owners]


def test_a_node_that_leaves_stays_until_it_has_brought_its_hints_home() -> None:
    world = settled_town(5)
    key, down = next((key, node) for key in KEYS for node in staying(world, key))
    leaver = world.order(key)[3]
    first = next(node for node in world.order(key)[:3] if node != down)
    world.kill(down)
    world.put(first, b"new", key=key, w=3, context=world.get(first, key=key).context)
    assert world.hint(leaver, key)[0] == [down]
    world.lose = lambda source, target, message: target == down and isinstance(message, Store)
    world.start(down)

    world.rule(next(node for node in world.ids if node != leaver), leaver, LEAVING)
    world.until(lambda: not kept(world, leaver))
    world.advance(5000)
    assert standing(world, leaver) == LEAVING
    assert world.hint(leaver, key)[0] == [down]

    world.lose = lambda source, target, message: False
    world.settle()

    assert standing(world, leaver) == REMOVED
    assert world.values(down, key) == [b"new"]


def test_a_node_that_is_told_to_stay_after_all_takes_back_what_it_owns() -> None:
    world = settled_town(4, slice_keys=2, move_bytes_per_s=100)
    a, *_, d = world.ids
    reader = Reader(world)
    before = served(world, d)
    world.rule(a, d, LEAVING)
    world.advance(3000)
    assert any(owned(world, node) - served(world, node) for node in world.ids[:3])
    assert set() < served(world, d) < before

    world.rule(a, d, IN)
    world.settle()

    assert reader.check() > 200
    assert standing(world, d) == IN
    assert served(world, d) == owned(world, d)
    owners_have(world)


def test_a_copy_that_comes_after_a_full_disk_is_known_of_by_the_next_life_of_its_node() -> None:
    world = settled_town(4)
    key = KEYS[0]
    leaver, teller, _, newcomer = world.order(key)
    world.full.add(newcomer)
    world.rule(teller, leaver, LEAVING)
    world.run()
    assert newcomer in world.order(key)[:3]
    assert partition(world, key) not in partitions_in(world.held(newcomer)[1])
    world.full.clear()
    world.put(teller, b"new", key=key, context=world.get(teller, key=key).context)
    assert world.values(newcomer, key) == [b"new"]
    world.kill(newcomer)  # before it says once more what it keeps
    assert partition(world, key) in partitions_in(world.held(newcomer)[1])

    world.rule(teller, leaver, IN)
    world.start(newcomer)
    world.settle()
    assert newcomer not in world.order(key)[:3]
    world.rule(teller, newcomer, LEAVING)
    world.settle()

    assert standing(world, newcomer) == REMOVED
    assert keys_on(world, newcomer) == []
    assert [world.values(node, key) for node in world.order(key)[:3]] == [[b"new"]] * 3


def test_a_put_that_is_taken_over_is_under_way_until_it_is_made() -> None:
    world = settled_town(5, move_every_ms=1)
    a, *_, leaver = world.ids
    key = next(key for key in KEYS if leaver not in world.order(key)[:3])
    world.rule(a, leaver, LEAVING)
    world.until(lambda: not kept(world, leaver))
    world.lose = lambda source, target, message: source == leaver and isinstance(message, Put)

    client = world.send_put(leaver, b"late", key=key, w=1, timeout_ms=5000)
    world.until(lambda: world.nodes[leaver].rounds.left)

    world.reply(client, PutReply)
    assert world.hint(leaver, key) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("side", ["sender", "receiver"])
@pytest.mark.parametrize("kind", [Pull, GaveUp, Match, Matched, Slice])
def test_a_leave_survives_that_either_side_dies(kind: type[Message], side: str) -> None:
    world = settled_town(4, slice_keys=2, move_retry_ms=1000)
    a, *_, d = world.ids

    def die(source: bytes, target: bytes) -> None:
        world.kill(source if side == "sender" else target)

    stop = Stop(world, kind, die, count=3)
    world.rule(a, d, LEAVING)
    world.until(lambda: stop.happened)
    world.advance(1000)

    world.start(*world.dead)
    world.until(lambda: standing(world, d) == REMOVED)

    assert keys_on(world, d) == []
    world.settle()
    owners_have(world)


def test_in_a_cluster_with_fewer_nodes_than_copies_a_newcomer_fills_from_all() -> None:
    world = settled_town(2)
    reader = Reader(world)

    c = world.join()
    world.settle()

    assert reader.check() > 100
    assert served(world, c) == set(range(16))
    for node in world.ids:
        assert served(world, node) == owned(world, node)
    assert not [message for _, _, message in world.sent if isinstance(message, GaveUp)]
    owners_have(world)


def test_where_three_become_two_the_leaver_goes_and_the_others_have_all() -> None:
    world = settled_town(3)
    a, _, c = world.ids

    world.rule(a, c, LEAVING)
    world.settle()

    assert standing(world, c) == REMOVED
    assert keys_on(world, c) == []
    owners_have(world)


# -- removal ---------------------------------------------------------------------------------------


def test_when_a_dead_node_is_removed_the_others_fill_from_all_that_serve() -> None:
    world = settled_town(4)
    a, *_, d = world.ids
    lost = {partition(world, key) for key in KEYS if d in world.order(key)[:3]}
    world.kill(d)
    reader = Reader(world)

    world.rule(a, d, REMOVED)
    world.settle()

    assert reader.check() > 100
    asked: dict[int, set[object]] = {}
    for _, target, message in world.sent:
        if isinstance(message, Pull):
            asked.setdefault(message.partition, set()).add(target)
    for number in lost:
        assert len(asked[number]) >= 2
    for node in world.ids[:3]:
        assert served(world, node) == owned(world, node) == set(range(16))
    owners_have(world)


def test_what_only_one_of_two_survivors_has_comes_to_whoever_fills() -> None:
    world = settled_town(4)
    a, b, c, d = world.ids
    key = next(key for key in KEYS if d in world.order(key)[:3])
    new = next(node for node in (a, b, c) if node not in world.order(key)[:3])
    one, other = (node for node in world.order(key)[:3] if node != d)
    world.kill(d)
    context = world.get(one, key=key).context
    world.lose = lambda source, target, message: (
        target in (other, new) and isinstance(message, Store)
    )
    world.send_put(one, b"new", key=key, w=1, context=context)
    world.run()
    world.kill(new)  # its hint is on its disk or lost: it must not be needed
    world.disk[new].clear()
    world.lose = lambda source, target, message: isinstance(message, Store)
    world.start(new)

    world.rule(a, d, REMOVED)
    world.settle()

    assert world.values(one, key) == [b"new"]
    assert world.values(new, key) == [b"new"]


def test_a_partition_is_not_filled_while_one_that_serves_it_is_down() -> None:
    world = settled_town(4)
    a, b, c, d = world.ids
    world.kill(d)
    world.kill(c)
    world.rule(a, d, REMOVED)
    world.advance(5000)
    waiting = {row.partition for node in (a, b) for row in world.nodes[node].moves.progress()}
    assert waiting
    reasons = {row.waiting for node in (a, b) for row in world.nodes[node].moves.progress()}
    assert reasons == {"n3 is down"}

    world.start(c)
    world.settle()

    owners_have(world)


def test_two_owners_that_went_for_ever_are_filled_up_for_from_the_third() -> None:
    world = settled_town(5)
    a, _, _, d, e = world.ids
    world.kill(d, e)
    reader = Reader(world)

    world.rule(a, d, REMOVED)
    world.rule(a, e, REMOVED)
    world.settle()

    reader.check(failures=1000)
    for key in KEYS:
        for node in world.ids[:3]:
            assert world.values(node, key) == [value_of(key)]


# -- hints -----------------------------------------------------------------------------------------


def test_a_hint_for_a_node_that_was_removed_goes_to_the_new_owners() -> None:
    world = settled_town(5)
    a = world.ids[0]
    gone = world.ids[4]
    key = next(key for key in KEYS if gone in world.order(key)[:3])
    first, *_ = (node for node in world.order(key)[:3] if node != gone)
    keeper = world.order(key)[3]
    world.kill(gone)
    context = world.get(first, key=key).context
    world.lose = lambda source, target, message: (
        target not in (keeper, first) and isinstance(message, Store)
    )
    world.put(first, b"new", key=key, w=2, context=context)
    assert world.hint(keeper, key) == ([gone], [b"new"])
    world.lose = lambda source, target, message: False

    world.rule(a, gone, REMOVED)
    world.settle()
    world.until(lambda: world.hint(keeper, key) == ([], []))

    owners = [node for node in world.order(key) if node != gone][:3]
    for owner in owners:
        assert world.values(owner, key) == [b"new"]
    world.until(lambda: not any(world.nodes[node].hints.notes for node in world.ids[:4]))


def test_a_hint_for_a_node_that_owns_its_key_no_more_goes_to_the_new_owners() -> None:
    world = settled_town(3)
    a, b, c = world.ids
    world.kill(c)
    written: list[bytes] = []
    for key in KEYS[:16]:
        world.put(a, b"new", key=key, w=2, context=world.get(a, key=key).context)
        assert c in world.hint(a, key)[0] + world.hint(b, key)[0]
        written.append(key)

    world.join()
    world.advance(2000)
    world.start(c)
    world.settle()
    world.until(lambda: not any(node.hints.notes for node in world.nodes.values()))

    for key in written:
        placement = world.nodes[a].local.routes.placement
        for owner in placement.owners(placement.partition_of(key)):
            assert world.values(owner, key) == [b"new"]


def test_a_node_gives_itself_the_copy_that_it_kept_for_one_whose_place_it_takes() -> None:
    world = settled_town(4)
    a, *_, d = world.ids
    key = next(key for key in KEYS if d in world.order(key)[:3])
    keeper = world.order(key)[3]
    first = next(node for node in world.order(key)[:3] if node != d)
    world.kill(d)
    world.put(first, b"new", key=key, w=3, context=world.get(first, key=key).context)
    assert world.hint(keeper, key)[0] == [d]

    world.rule(a, d, REMOVED)
    world.settle()
    world.until(lambda: world.hint(keeper, key) == ([], []))

    assert keeper in world.order(key)[:3]
    assert world.values(keeper, key) == [b"new"]


def test_a_key_of_which_nobody_ever_wrote_is_never_written_again_once_all_serve() -> None:
    world = settled_town(4)
    a, *_, d = world.ids
    key = data_key(b"town", b"nobody")

    world.rule(a, d, LEAVING)
    world.settle()

    assert read(world, a, key).quality.absent == "never"


def test_after_all_moves_the_owners_have_equal_records() -> None:
    world = settled_town(4, slice_keys=3)
    a, *_, d = world.ids
    world.rule(a, d, LEAVING)
    world.join()
    world.settle()

    for key in KEYS:
        owners = [node for node in world.ids if world.values(node, key)]
        assert len({world.disk[node][OWN + key][8:] for node in owners}) == 1
        assert len(owners) == 3
    assert {message.status for message in world.messages(Matched)} == {SAME}
