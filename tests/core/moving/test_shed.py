"""A node lets a partition go that it owns no more: never before all owners have all of it."""

from __future__ import annotations

from tests.core.moving.towns import (
    KEYS,
    kept,
    keys_on,
    owned,
    owners_have,
    partition,
    served,
    settled_town,
    standing,
    value_of,
)
from tests.core.world import World

from everwrite.core.messages.members import LEAVING, REMOVED
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import Match, Matched, Pull, Slice
from everwrite.core.messages.requests import BUSY, NOT_HERE, SAME, SYNC_NO, Store, StoreReply
from everwrite.core.outbox import Place
from everwrite.core.records import OWN


def shedding(world: World, node: bytes) -> set[int]:
    return {row.partition for row in world.nodes[node].moves.progress() if row.kind == "shed"}


def test_nothing_is_removed_before_every_owner_has_it() -> None:
    world = settled_town(3, slice_keys=2)
    everyone = {key: set(world.ids) for key in KEYS}

    def look() -> None:
        for key in KEYS:
            here = {node for node in world.ids if world.values(node, key)}
            for node in everyone[key] - here:
                placement = world.nodes[node].local.routes.placement
                owners = placement.owners(placement.partition_of(key))
                assert set(owners) <= here
                assert node not in owners
            everyone[key] = here

    world.watch = look
    world.join()
    world.settle()

    assert any(len(here) == 3 for here in everyone.values())
    owners_have(world)


def with_one_that_sheds(**knobs: object) -> tuple[World, bytes, bytes]:
    """Return a world that is settled but for what one node is to let go, that node, and a key of
    it.
    """
    world = settled_town(3, **knobs)
    world.join()
    world.lose = lambda source, target, message: isinstance(message, Match)
    world.until(lambda: all(served(world, node) == owned(world, node) for node in world.ids))
    node = world.ids[0]
    world.until(lambda: bool(shedding(world, node)))
    key = next(
        key for key in keys_on(world, node) if partition(world, key) in shedding(world, node)
    )
    return world, node, key


def test_what_an_owner_lacks_is_brought_to_it_before_it_is_removed() -> None:
    world, node, key = with_one_that_sheds()
    lacking = world.order(key)[1]
    del world.disk[lacking][OWN + key]
    world.nodes[lacking].local.records.forget([OWN + key])
    world.lose = lambda source, target, message: False

    world.settle()

    assert world.values(node, key) == []
    assert world.values(lacking, key) == [value_of(key)]


def test_what_the_owners_have_is_compared_and_not_carried() -> None:
    """In slices: what was removed before is not compared again, or all would differ for ever."""
    world = settled_town(3, slice_keys=1)
    world.sent.clear()

    world.join()
    world.settle()

    assert {message.status for message in world.messages(Matched)} <= {SAME, BUSY}
    assert not world.messages(Store)


def test_nothing_is_removed_while_an_owner_cannot_fsync_what_it_lacks() -> None:
    world, node, key = with_one_that_sheds()
    lacking = world.order(key)[1]
    del world.disk[lacking][OWN + key]
    world.nodes[lacking].local.records.forget([OWN + key])
    world.unsynced.add(lacking)
    world.lose = lambda source, target, message: False

    world.advance(3000)
    assert world.values(node, key) == [value_of(key)]

    world.unsynced.clear()
    world.settle()
    assert world.values(node, key) == []
    assert world.values(lacking, key) == [value_of(key)]


def test_nothing_is_removed_while_an_owner_is_down() -> None:
    world, node, key = with_one_that_sheds()
    down = world.order(key)[2]
    world.kill(down)
    world.lose = lambda source, target, message: False

    world.advance(8000)

    assert world.values(node, key) == [value_of(key)]
    world.start(down)
    world.settle()
    assert world.values(node, key) == []


def test_a_full_disk_at_an_owner_removes_nothing_that_it_lacks() -> None:
    world, node, key = with_one_that_sheds(move_retry_ms=1000)
    lacking = world.order(key)[1]
    del world.disk[lacking][OWN + key]
    world.nodes[lacking].local.records.forget([OWN + key])
    world.full.add(lacking)
    world.lose = lambda source, target, message: False

    world.advance(5000)

    assert world.values(node, key) == [value_of(key)]
    world.full.clear()
    world.settle()
    assert world.values(lacking, key) == [value_of(key)]


def test_a_node_that_sheds_takes_no_copy_any_more() -> None:
    world, node, key = with_one_that_sheds()
    peer = world.order(key)[0]
    record = world.disk[peer][OWN + key][8:]
    world.sent.clear()

    world.nodes[node].receive(peer, Store(9, key, record, 1000, SYNC_NO))
    world.run()

    (reply,) = [message for message in world.messages(StoreReply, to=peer) if message.rid == 9]
    assert reply.status == NOT_HERE


def test_who_must_take_back_what_it_sheds_keeps_it() -> None:
    """It becomes an owner again while it waits to hear what the others have."""
    world, node, key = with_one_that_sheds(move_retry_ms=60_000)
    leaver = world.order(key)[0]
    before = set(keys_on(world, node))

    world.rule(world.ids[1], leaver, LEAVING)
    world.lose = lambda source, target, message: False
    world.settle()

    assert standing(world, leaver) == REMOVED
    assert before <= set(keys_on(world, node))
    owners_have(world)


def test_an_owner_that_does_not_serve_answers_no_match() -> None:
    world = settled_town(3)
    world.lose = lambda source, target, message: isinstance(message, Slice)
    d = world.join()
    world.advance(300)
    number = min(owned(world, d))
    world.sent.clear()

    world.nodes[d].receive(world.ids[0], Match(5, number, b"", b"", b"d" * 16))
    world.run()

    (reply,) = [message for message in world.messages(Matched) if message.rid == 5]
    assert reply.status == NOT_HERE


def test_a_node_that_keeps_nothing_of_a_partition_gives_nothing_of_it() -> None:
    world = settled_town(4)
    node = world.ids[0]
    number = min(set(range(16)) - kept(world, node))
    for asked in (number, 16, 99):
        world.sent.clear()

        world.nodes[node].receive(world.ids[1], Pull(5, asked, b"", b"", b""))
        world.run()

        (reply,) = world.messages(Slice)
        assert (reply.status, reply.items) == (NOT_HERE, [])


def test_a_node_reads_so_many_ranges_at_a_time_and_says_that_it_is_busy() -> None:
    world = settled_town(3, moves_max=1)
    node, peer, _ = world.ids
    world.unread.add(node)
    for rid in range(5):
        world.nodes[node].receive(peer, Pull(rid, rid, b"", b"", b""))
    world.run()
    assert [message.status for message in world.messages(Slice)] == [BUSY] * 3

    world.unread.clear()
    world.advance(200)  # the second one waits for its turn

    assert len(world.messages(Slice)) == 5
    assert world.nodes[node].moves.giving == 0


def test_an_ack_that_comes_twice_stands_for_no_other_record() -> None:
    """Of all that an owner lacks, one record is acked many times and the others get lost."""
    world, node, key = with_one_that_sheds(move_retry_ms=1000)
    lacking = world.order(key)[1]
    number = partition(world, key)
    gone = [each for each in keys_on(world, lacking) if partition(world, each) == number]
    for each in gone:
        del world.disk[lacking][OWN + each]
        world.nodes[lacking].local.records.forget([OWN + each])
    arrived: set[bytes] = set()

    def only_one(source: bytes, target: Place, message: Message) -> bool:
        if isinstance(message, StoreReply) and (source, target) == (lacking, node):
            for _ in gone:
                world.nodes[node].receive(lacking, message)
        elif isinstance(message, Store) and (source, target) == (node, lacking):
            arrived.update({message.key} if not arrived else ())
            return message.key not in arrived
        return False

    world.lose = only_one
    world.until(lambda: bool(arrived))
    world.advance(500)
    assert len(gone) > 1
    assert set(gone) <= set(keys_on(world, node))

    world.lose = lambda source, target, message: False
    world.settle()
    assert set(gone) <= set(keys_on(world, lacking))
    owners_have(world)


def test_what_was_handed_to_an_owner_that_stays_silent_leaves_nothing_open() -> None:
    world, node, key = with_one_that_sheds(move_retry_ms=1000)
    lacking = world.order(key)[1]
    del world.disk[lacking][OWN + key]
    world.nodes[lacking].local.records.forget([OWN + key])
    handed: list[int] = []

    def unheard(source: bytes, target: Place, message: Message) -> bool:
        if isinstance(message, Store) and (source, target) == (node, lacking):
            handed.append(message.rid)
        return isinstance(message, StoreReply) and (source, target) == (lacking, node)

    world.lose = unheard
    local = world.nodes[node].local
    world.until(lambda: bool(handed))
    waits = set(handed)
    assert waits <= set(local.requests)

    world.until(lambda: not waits & set(local.requests))
    world.lose = lambda source, target, message: False
    world.settle()
    owners_have(world)
    assert local.background == sum(1 for _ in local.requests)
