"""The steps of a move one by one: what is asked, what is answered, and what must be on a disk."""

from __future__ import annotations

from itertools import islice

import pytest
from tests.core.moving.towns import (
    KEYS,
    kept,
    keys_on,
    owned,
    owners_have,
    partition,
    served,
    settled_town,
    value_of,
)
from tests.core.world import World

from everwrite.core.data.keys import data_key
from everwrite.core.messages.members import News
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Matched, Pull, Slice
from everwrite.core.messages.requests import (
    BUSY,
    FOUND,
    NOT_HERE,
    SAME,
    UNREADABLE,
    PutReply,
    Store,
)
from everwrite.core.moving.ranges import digest_of
from everwrite.core.records import OWN


def losing(world: World, *kinds: type[Message]) -> None:
    world.lose = lambda source, target, message: isinstance(message, kinds)


def heal(world: World) -> None:
    world.lose = lambda source, target, message: False


def ask(world: World, node: bytes, peer: bytes, message: Message) -> Message:
    """Send a node a message of a peer; return its answer."""
    world.sent.clear()
    world.nodes[node].receive(peer, message)
    world.advance(100)  # it may have to wait for its turn
    kinds: dict[type[Message], type[Message]] = {Pull: Slice, Match: Matched, GiveUp: GaveUp}
    (answer,) = (
        sent
        for source, target, sent in world.sent
        if (source, target) == (node, peer) and type(sent) is kinds[type(message)]
    )
    return answer


def in_one_partition(world: World, node: bytes, count: int) -> tuple[int, list[bytes]]:
    """Put so many keys into a partition that a node owns; return both, the keys in order."""
    number = min(owned(world, node))
    names = (data_key(b"more", b"%d" % name) for name in range(9999))
    keys = sorted(islice((key for key in names if partition(world, key) == number), count))
    for key in keys:
        world.put(node, b"v", key=key, w=3)
    return number, keys


def items(world: World, node: bytes, keys: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(key, world.disk[node][OWN + key][8:]) for key in keys]


# -- pull ------------------------------------------------------------------------------------------


def test_a_pull_brings_what_stands_in_its_range_slice_by_slice() -> None:
    world = World(3, slice_keys=2)
    a, b, _ = world.ids
    number, keys = in_one_partition(world, a, 5)
    after, found = b"", []
    for _ in range(3):
        slice_ = ask(world, a, b, Pull(7, number, after, b"", b""))
        assert (slice_.rid, slice_.status) == (7, FOUND)
        found += slice_.items
        after = slice_.last

    assert found == items(world, a, keys)
    assert after == b""


def test_a_pull_of_what_is_the_same_brings_nothing() -> None:
    world = World(3, slice_keys=3)
    a, b, _ = world.ids
    number, keys = in_one_partition(world, a, 3)

    reply = ask(
        world, a, b, Pull(7, number, keys[0], keys[2], digest_of(items(world, b, keys[1:])))
    )

    assert (reply.status, reply.items) == (SAME, [])


def test_a_range_of_which_a_node_has_more_than_the_asker_is_not_called_the_same() -> None:
    """The asker has all of the first slice, and thinks that the range ends there."""
    world = World(3, slice_keys=2)
    a, b, _ = world.ids
    number, keys = in_one_partition(world, a, 4)
    digest = digest_of(items(world, b, keys[:2]))

    reply = ask(world, a, b, Pull(7, number, b"", b"", digest))

    assert (reply.status, reply.last) == (FOUND, keys[1])
    assert ask(world, a, b, Match(7, number, b"", b"", digest)).status == FOUND


def test_a_pull_of_another_partition_than_its_keys_are_in_brings_none_of_them() -> None:
    world = World(3)
    a, b, _ = world.ids
    number, _ = in_one_partition(world, a, 3)
    for other in set(range(16)) - {number}:
        reply = ask(world, a, b, Pull(7, other, b"", b"", b""))
        assert reply.items == []


def test_a_range_that_cannot_be_read_is_called_unreadable_and_not_empty() -> None:
    world = World(3)
    a, b, _ = world.ids
    number, keys = in_one_partition(world, a, 3)
    world.broken.add((a, OWN + keys[1]))

    assert ask(world, a, b, Pull(7, number, b"", b"", b"")).status == UNREADABLE
    assert ask(world, a, b, Match(7, number, b"", b"", b"")).status == UNREADABLE


def test_a_range_with_a_damaged_record_is_never_the_same() -> None:
    world = World(3)
    a, b, _ = world.ids
    number, keys = in_one_partition(world, a, 3)
    world.rotten.add((a, OWN + keys[1]))
    world.nodes[a].local.records.forget([OWN + keys[1]])
    digest = digest_of(items(world, b, [keys[0], keys[2]]))

    assert ask(world, a, b, Match(7, number, b"", b"", digest)).status == FOUND
    reply = ask(world, a, b, Pull(7, number, b"", b"", digest))
    assert (reply.status, [key for key, _ in reply.items]) == (FOUND, [keys[0], keys[2]])


def test_a_damaged_record_that_memory_still_has_is_on_the_disk_before_it_is_the_same() -> None:
    """Who asks removes its own copy, maybe the last whole one, on this word or on the ack of a
    store, which finds the same in memory and writes nothing.
    """
    world = World(3)
    a, b, _ = world.ids
    number, keys = in_one_partition(world, a, 3)
    world.rotten.add((a, OWN + keys[1]))

    match = Match(7, number, b"", b"", digest_of(items(world, b, keys)))
    assert ask(world, a, b, match).status == SAME
    assert not world.rotten


def test_an_owner_says_that_it_has_the_same_once_that_is_safe_on_its_disk() -> None:
    """Who asks removes its own copies on this word."""
    world = World(3)
    a, b, _ = world.ids
    number, keys = in_one_partition(world, a, 2)
    world.unsynced.add(a)
    world.sent.clear()

    match = Match(7, number, b"", b"", digest_of(items(world, b, keys)))
    world.nodes[a].receive(b, match)
    world.run()
    assert not world.messages(Matched)

    world.unsynced.clear()
    world.run()
    assert [message.status for message in world.messages(Matched)] == [SAME]


# -- give up ---------------------------------------------------------------------------------------


def joined(**knobs: object) -> tuple[World, bytes, int, bytes]:
    """Let a node join and copy nothing; return it, a partition of its, and who serves it."""
    world = settled_town(3, **knobs)
    losing(world, Pull)
    d = world.join()
    world.advance(300)
    number = partition(world, next(key for key in KEYS if partition(world, key) in owned(world, d)))
    giver = world.nodes[d].local.routes.serving(number)[2][0]
    return world, d, number, giver


def test_a_partition_is_given_up_to_an_owner_that_asks_and_for_good() -> None:
    world, d, number, giver = joined()

    assert ask(world, giver, d, GiveUp(5, number)) == GaveUp(5, True)

    assert number not in served(world, giver)
    assert number in kept(world, giver)
    assert world.held(giver)[0] >> number & 1 == 0
    assert ask(world, giver, d, GiveUp(6, number)) == GaveUp(6, True)


def test_a_partition_is_given_up_to_nobody_but_an_owner() -> None:
    world, d, number, giver = joined()
    stranger = next(node for node in world.ids[:3] if node != giver)
    not_owned = next(p for p in range(16) if p not in owned(world, d))

    assert ask(world, giver, d, GiveUp(5, not_owned)) == GaveUp(5, False)
    world.dead.add(b"strange!")
    assert ask(world, giver, b"strange!", GiveUp(5, number)) == GaveUp(5, False)
    assert ask(world, giver, d, GiveUp(5, 16)) == GaveUp(5, False)
    for node in (giver, stranger):
        assert served(world, node) == set(range(16))


def test_an_owner_gives_nothing_up() -> None:
    world, d, number, giver = joined()
    owner = next(node for node in world.ids[:3] if node != giver)
    assert number in owned(world, owner)

    assert ask(world, owner, d, GiveUp(5, number)) == GaveUp(5, False)

    assert number in served(world, owner)


def test_what_was_given_to_one_is_not_given_to_another() -> None:
    world = settled_town(3)
    losing(world, Pull)
    d, e = world.join(), world.join()
    world.advance(300)
    number, giver = next(
        (number, node)
        for number in sorted(owned(world, d) & owned(world, e))
        for node in world.ids[:3]
        if number not in owned(world, node)
    )

    assert ask(world, giver, d, GiveUp(5, number)) == GaveUp(5, True)
    assert ask(world, giver, e, GiveUp(6, number)) == GaveUp(6, False)
    assert ask(world, giver, d, GiveUp(7, number)) == GaveUp(7, True)


def test_a_giver_says_so_once_its_fsync_has_ended() -> None:
    world, d, number, giver = joined()
    world.unsynced.add(giver)
    world.sent.clear()

    world.nodes[giver].receive(d, GiveUp(5, number))
    world.run()

    assert number not in served(world, giver)
    assert not world.messages(GaveUp)
    world.unsynced.clear()
    world.run()
    assert world.messages(GaveUp) == [GaveUp(5, True)]


def test_a_giver_that_cannot_write_has_given_nothing_up_and_writes_later_what_it_serves() -> None:
    world, d, number, giver = joined()
    world.full.add(giver)

    assert ask(world, giver, d, GiveUp(5, number)) == GaveUp(5, False)

    world.full.clear()
    world.until(lambda: world.held(giver)[0] == world.nodes[giver].local.serves, ms=1000)


def test_who_gave_up_and_dies_does_not_serve_again() -> None:
    world, d, number, giver = joined()
    ask(world, giver, d, GiveUp(5, number))
    world.kill(giver)

    world.start(giver)

    assert number not in served(world, giver)
    heal(world)
    world.settle()
    owners_have(world)


# -- gain ------------------------------------------------------------------------------------------


def test_a_new_owner_serves_nothing_before_its_proof_is_on_its_disk() -> None:
    world = World(3)
    d = world.join()
    world.unsynced.add(d)
    told: list[bytes] = []

    def look(source: bytes, target: object, message: Message) -> bool:
        if isinstance(message, News):
            told.extend(entry.serves for entry in message.entries if entry.node_id == d)
        return False

    world.lose = look
    world.advance(3000)
    assert served(world, d) == set()
    assert not any(told)

    world.unsynced.clear()
    world.settle()
    assert served(world, d) == owned(world, d)
    assert any(told)


def test_a_new_owner_asks_for_the_next_slice_once_this_one_is_fsynced() -> None:
    world = settled_town(3, slice_keys=1, moves_max=1)
    d = world.join()
    world.unsynced.add(d)

    world.advance(2000)

    assert len([message for message in world.messages(Slice, to=d) if message.items]) == 1
    world.unsynced.clear()
    world.settle()
    owners_have(world)


def test_a_slice_that_nobody_asked_for_changes_nothing() -> None:
    world, d, number, giver = joined()
    rid = next(iter(world.nodes[d].local.requests))
    before = keys_on(world, d)
    other = next(node for node in world.ids[:3] if node != giver)
    foreign = [(KEYS[0], b"no record at all")]

    world.nodes[d].receive(other, Slice(rid + 999, FOUND, foreign))
    world.nodes[d].receive(giver, Slice(rid + 999, SAME, []))
    world.nodes[d].receive(giver, GaveUp(rid, True))
    world.run()

    assert keys_on(world, d) == before
    assert number not in served(world, d)


@pytest.mark.parametrize("status", [BUSY, NOT_HERE, UNREADABLE])
def test_a_source_that_cannot_answer_now_is_asked_again(status: int) -> None:
    world = settled_town(3)
    left = 20

    def spoil(source: bytes, target: object, message: Message) -> bool:
        nonlocal left
        if isinstance(message, Pull) and left and isinstance(target, bytes):
            left -= 1
            answers.append((source, target, message))
            return True
        return False

    answers: list[tuple[bytes, bytes, Pull]] = []
    world.lose = spoil

    def answer() -> None:
        while answers:
            source, target, pull = answers.pop()
            world.nodes[source].receive(target, Slice(pull.rid, status, [], step=pull.step))

    world.watch = answer
    d = world.join()
    world.settle()

    assert not left
    assert served(world, d) == owned(world, d)
    owners_have(world)


def test_where_nobody_is_known_to_hold_a_partition_all_members_are_asked() -> None:
    """The whole cluster lost what it had: it is empty, once all are up and say so."""
    world = World(3)
    for node in world.ids:
        world.kill(node)
    for node in world.ids:
        del world.state[node][b"mheld"]
    world.start(*world.ids[:2])
    world.advance(3000)
    assert not served(world, world.ids[0])

    world.start(world.ids[2])
    world.settle()

    for node in world.ids:
        assert served(world, node) == set(range(16))


# -- requests meanwhile ----------------------------------------------------------------------------


def test_a_retry_that_looks_around_while_a_partition_moves_is_carried_out_once() -> None:
    world, d, number, giver = joined()
    key = next(key for key in KEYS if partition(world, key) == number)
    context = world.get(giver, key=key).context
    first = world.put(giver, b"new", key=key, op=b"once", context=context, w=3)

    for node in world.ids:
        again = world.put(node, b"new", key=key, op=b"once", context=context, retry=True, w=2)
        assert again.siblings == first.siblings == 1
    heal(world)
    world.settle()

    placement = world.nodes[d].local.routes.placement
    for owner in placement.owners(number):
        assert world.values(owner, key) == [b"new"]


def test_a_retry_through_who_gave_the_partition_up_is_carried_out_once() -> None:
    world, d, number, giver = joined()
    key = next(key for key in KEYS if partition(world, key) == number)
    context = world.get(giver, key=key).context
    world.put(giver, b"new", key=key, op=b"once", context=context, w=3)
    ask(world, giver, d, GiveUp(5, number))

    client = world.send_put(giver, b"new", key=key, op=b"once", context=context, retry=True, w=2)
    world.advance(500)

    assert world.reply(client, PutReply).siblings == 1
    heal(world)
    world.settle()
    for owner in world.nodes[d].local.routes.placement.owners(number):
        assert world.values(owner, key) == [b"new"]


def test_n_less_than_the_cluster_s_is_served_by_who_serves_while_a_partition_moves() -> None:
    world, _, number, _ = joined()
    key = next(key for key in KEYS if partition(world, key) == number)
    for node in world.ids[:3]:
        for n in (1, 2):
            found = world.get(node, key=key, n=n, r=n)
            assert [value for _, value in found.values] == [value_of(key)]
            assert found.quality.owners == n


# -- damage ----------------------------------------------------------------------------------------


def test_what_the_giver_cannot_read_comes_from_the_others_that_serve() -> None:
    """A write is on the giver and one other, and the giver's copy is damaged: it was acknowledged,
    and must not be missed by the new owner and the third.
    """
    world, _, number, giver = joined()
    key = next(key for key in KEYS if partition(world, key) == number)
    other, third = (node for node in world.ids[:3] if node != giver)
    context = world.get(other, key=key).context
    world.lose = lambda source, target, message: (
        isinstance(message, Pull) or (isinstance(message, Store) and target != giver)
    )
    done = world.put(other, b"new", key=key, w=2, context=context)
    assert done.owners == 2
    world.rotten.add((giver, OWN + key))
    world.nodes[giver].local.records.forget([OWN + key])
    world.lose = lambda source, target, message: isinstance(message, Store) and source == other

    world.until(lambda: world.nodes[third].local.routes.settled(number))
    world.kill(other)

    client = world.send_get(third, key=key, r=2)
    world.advance(1500)
    (answer,) = world.answers[client]
    assert [value for _, value in answer.values] == [b"new"]
