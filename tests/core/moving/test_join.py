"""A node joins: it gains its partitions, and nobody who reads or writes notices."""

from __future__ import annotations

import pytest
from tests.core.moving.towns import (
    KEYS,
    MOVES,
    Reader,
    Stop,
    kept,
    keys_on,
    moved_bytes,
    owned,
    owners_have,
    partition,
    read,
    served,
    settled_town,
    value_of,
)
from tests.core.world import World

from everwrite.core.data.keys import data_key
from everwrite.core.messages.members import REMOVED, News, Rows, Ruling, Summary
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Matched, Pull, Slice
from everwrite.core.messages.requests import (
    NOT_HERE,
    SYNC_NO,
    Fetch,
    FetchReply,
    GetReply,
    PutReply,
    Store,
    StoreReply,
)
from everwrite.core.records import OWN


def test_a_fourth_node_gains_what_it_owns_and_the_others_let_go_of_what_they_do_not() -> None:
    world = settled_town(3)

    d = world.join()
    world.settle()

    assert len(owned(world, d)) == 12
    for node in world.ids:
        assert served(world, node) == kept(world, node) == owned(world, node)
    owners_have(world)


def test_a_node_that_joins_a_cluster_without_data_serves_what_it_owns_too() -> None:
    world = World(3)

    d = world.join()
    world.settle()

    assert served(world, d) == owned(world, d)
    assert moved_bytes(world) == 0


def test_each_value_is_carried_once() -> None:
    world = settled_town(3)
    size = {key: len(key) + len(world.disk[world.ids[0]][OWN + key]) - 8 for key in KEYS}

    d = world.join()
    world.settle()

    assert moved_bytes(world) == sum(size[key] for key in keys_on(world, d))
    gave = sum(node.moves.counters.bytes_out for node in world.nodes.values())
    assert gave == moved_bytes(world)


def test_while_partitions_move_every_value_is_found_through_every_node() -> None:
    world = settled_town(3, slice_keys=2)
    reader = Reader(world)

    world.join()
    world.settle()

    assert reader.check() > 200


def test_a_new_owner_counts_in_no_quorum_before_it_has_proved_what_it_has() -> None:
    world = settled_town(3, slice_keys=2)
    world.lose = lambda source, target, message: isinstance(message, Slice)

    d = world.join()
    world.advance(1000)

    for key in KEYS:
        for node in world.ids[:3]:
            route = world.nodes[node].local.routes.route(key, 0)
            assert d not in route.owners
            assert len(route.owners) == 3
            assert route.late == ((d,) if partition(world, key) in owned(world, d) else ())


def test_nothing_is_called_never_written_while_fewer_than_n_serve() -> None:
    """One that is to serve the partition has gone for ever, and the new owner is not ready."""
    world = settled_town(4)
    a, b, *_, d = world.ids
    missing = next(
        data_key(b"b", b"%d" % number)
        for number in range(99)
        if d in world.order(data_key(b"b", b"%d" % number))[:3]
    )
    world.kill(d)
    world.lose = lambda source, target, message: isinstance(message, Slice)
    world.rule(a, d, 2)
    world.run()

    for node in (a, b):
        found = read(world, node, missing)
        assert (found.values, found.quality.absent) == ([], "unknown")

    world.lose = lambda source, target, message: False
    world.settle()
    assert read(world, a, missing).quality.absent == "never"


def test_what_is_written_while_partitions_move_is_on_the_new_owners_at_the_end() -> None:
    world = settled_town(3, slice_keys=2)
    written: dict[int, bytes] = {}
    todo = list(KEYS)

    def write() -> None:
        for node in world.ids:
            if todo and world.nodes[node].local.members.rulings:
                key = todo.pop()
                context = b""
                written[world.send_put(node, b"new " + value_of(key), key=key, context=context)] = (
                    key
                )

    world.watch = write
    world.join()
    world.settle()
    world.watch = lambda: None
    world.advance(1000)

    assert not todo
    for client in written:
        world.reply(client, PutReply)
    placement = world.nodes[world.ids[0]].local.routes.placement
    for key in KEYS:
        for owner in placement.owners(placement.partition_of(key)):
            assert b"new " + value_of(key) in world.values(owner, key)


def test_writes_of_a_partition_on_its_way_go_to_its_new_owner_without_a_vote() -> None:
    world = settled_town(3)
    world.lose = lambda source, target, message: isinstance(message, Slice)
    d = world.join()
    world.advance(300)
    key = next(key for key in KEYS if partition(world, key) in owned(world, d))
    context = world.get(world.ids[0], key=key).context

    done = world.put(world.ids[0], b"new", key=key, w=3, context=context)

    assert (done.owners, done.fallbacks) == (3, 0)
    assert world.values(d, key) == [b"new"]


# -- the hand-over ---------------------------------------------------------------------------------


def at_hand_over(world: World) -> tuple[bytes, bytes, int]:
    """Let a node join, until the first partition was given up and its new owner has not heard of
    it; return (giver, new owner, partition).
    """
    d = world.join()
    world.lose = lambda source, target, message: isinstance(message, GaveUp)
    world.until(lambda: bool(world.messages(GaveUp)))
    giver, _, _ = next(sent for sent in world.sent if type(sent[2]) is GaveUp)
    (first, *_) = (
        message.partition
        for source, target, message in world.sent
        if type(message) is GiveUp and target == giver
    )
    return giver, d, first


def test_who_gave_a_partition_up_takes_no_copy_of_it_and_says_so() -> None:
    world = settled_town(3, moves_max=1)
    giver, _, given = at_hand_over(world)
    key = next(key for key in KEYS if partition(world, key) == given)
    before = world.values(giver, key)
    peer = next(node for node in world.ids if node != giver)
    record = world.disk[peer][OWN + key][8:]
    world.sent.clear()

    world.nodes[giver].receive(peer, Store(7, key, record, 1000, SYNC_NO))
    world.run()

    (reply,) = [m for m in world.messages(StoreReply, to=peer) if m.rid == 7]
    assert reply.status == NOT_HERE
    assert world.values(giver, key) == before


def test_who_gave_a_partition_up_does_not_say_that_it_has_nothing_of_a_key() -> None:
    world = settled_town(3, moves_max=1)
    giver, _, given = at_hand_over(world)
    missing = next(
        key
        for key in (data_key(b"b", b"%d" % number) for number in range(999))
        if partition(world, key) == given
    )
    peer = next(node for node in world.ids if node != giver)

    world.nodes[giver].receive(peer, Fetch(7, missing, 1000))
    world.run()

    (reply,) = [m for m in world.messages(FetchReply, to=peer) if m.rid == 7]
    assert reply.status == NOT_HERE


def test_a_giver_clears_its_bit_on_its_disk_before_it_says_so() -> None:
    world = settled_town(3, moves_max=1)
    world.join()

    def check(source: bytes, target: object, message: Message) -> bool:
        if isinstance(message, GaveUp) and message.done:
            told.append(source)
            kept_on_disk = world.nodes[source].local.serves
            assert world.held(source)[0] == kept_on_disk
        return False

    told: list[bytes] = []
    world.lose = check
    world.settle()

    assert told


def test_who_reads_by_an_old_view_cannot_miss_what_the_new_owners_took() -> None:
    """One coordinator has not heard of the hand-over: the giver's old copy must not count there."""
    world = settled_town(3, moves_max=1)
    d = world.join()
    key = next(key for key in KEYS if partition(world, key) in owned(world, d))
    moving = partition(world, key)
    giver = world.nodes[world.ids[0]].local.routes.serving(moving)[2][0]
    behind, other = (node for node in world.ids[:3] if node != giver)
    context = world.get(other, key=key).context

    def lose(source: bytes, target: object, message: Message) -> bool:
        """Who is behind hears no news, and the copy of the write is lost on the way there."""
        return target == behind and isinstance(message, News | Rows | Summary | Store)

    world.lose = lose
    world.until(lambda: d in world.nodes[other].local.routes.route(key, 0).owners)
    assert giver in world.nodes[behind].local.routes.route(key, 0).owners
    client = world.send_put(other, b"new", key=key, w=2, context=context)
    world.run()
    assert world.reply(client, PutReply).owners == 2
    world.lose = lambda source, target, message: (
        lose(source, target, message) or (target == other and isinstance(message, Fetch))
    )

    client = world.send_get(behind, key=key, r=2)
    world.advance(1500)

    (answer,) = world.answers[client]
    if isinstance(answer, GetReply):
        assert [value for _, value in answer.values] == [b"new"], answer


# -- crashes ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True], ids=["arrives", "is lost"])
@pytest.mark.parametrize("side", ["sender", "receiver"])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", MOVES)
def test_whoever_dies_at_any_step_goes_on_from_its_disk(
    kind: type[Message], count: int, side: str, lost: bool
) -> None:
    world = settled_town(3, slice_keys=2, moves_max=2, move_retry_ms=1000)

    def die(source: bytes, target: bytes) -> None:
        world.kill(source if side == "sender" else target)

    stop = Stop(world, kind, die, count=count, lost=lost)
    world.join()
    world.until(lambda: stop.happened)
    reader = Reader(world, most=60)
    world.advance(400)
    reader.check(failures=60)

    world.start(*world.dead)
    reader = Reader(world, most=120)
    world.settle()
    assert reader.check() > 50

    for node in world.ids:
        assert served(world, node) == kept(world, node) == owned(world, node)
    owners_have(world)


def test_a_walk_that_is_begun_again_carries_only_what_differs() -> None:
    world = settled_town(3, slice_keys=2, moves_max=1)
    everything = sum(len(key) + len(world.disk[world.ids[0]][OWN + key]) - 8 for key in KEYS)
    stop = Stop(world, GiveUp, lambda source, target: world.kill(source), lost=True)
    d = world.join()
    world.until(lambda: stop.happened)
    there = keys_on(world, d)
    first = moved_bytes(world)
    assert there and first

    world.start(d)
    world.settle()

    again = moved_bytes(world)  # the counters of its new life
    lacked = [key for key in keys_on(world, d) if key not in there]
    assert again == sum(len(key) + len(world.disk[d][OWN + key]) - 8 for key in lacked)
    assert again + first <= everything
    owners_have(world)


def test_whoever_owned_it_all_along_is_not_walked_to_the_end_twice_for_nothing() -> None:
    """The proof of a partition that stood still asks for it in slices, and gets no record."""
    world = settled_town(3, slice_keys=4)

    d = world.join()
    world.settle()

    slices = [message for _, target, message in world.sent if type(message) is Slice]
    carried = sum(len(message.items) for message in slices)
    assert carried == len(keys_on(world, d))
    assert len(slices) >= 2 * len(owned(world, d))


# -- disks -----------------------------------------------------------------------------------------


def test_a_full_disk_on_the_new_owner_moves_nothing_until_there_is_room() -> None:
    world = settled_town(3, move_retry_ms=1000)
    d = world.join()
    world.full.add(d)
    reader = Reader(world)
    world.advance(5000)
    assert reader.check() > 200

    assert not served(world, d)
    assert keys_on(world, d) == []
    for node in world.ids[:3]:
        assert len(served(world, node)) == 16
    world.full.clear()
    world.settle()
    owners_have(world)


def test_a_full_disk_on_the_giver_gives_nothing_up() -> None:
    world = settled_town(3, move_retry_ms=1000, moves_max=1)
    d = world.join()
    world.full |= set(world.ids[:3])
    world.advance(5000)
    world.full.clear()
    world.settle()

    assert served(world, d) == owned(world, d)
    owners_have(world)


def test_a_damaged_record_on_the_giver_does_not_hold_up_its_partition() -> None:
    world = settled_town(3)
    a = world.ids[0]
    rotten = [key for key in KEYS if partition(world, key) % 3 == 0]
    assert len(rotten) > 3
    for key in rotten:
        world.rotten.add((a, OWN + key))
    reader = Reader(world)

    d = world.join()
    world.settle()
    reader.check()

    assert served(world, d) == owned(world, d)
    for key in KEYS:
        for node in world.ids:
            assert [value for _, value in read(world, node, key).values] == [value_of(key)]


def test_a_range_that_the_givers_disk_does_not_give_is_asked_for_again() -> None:
    world = settled_town(3)
    broken = {(node, OWN + key) for node in world.ids for key in KEYS}
    world.broken |= broken
    d = world.join()
    world.advance(3000)
    had = len(served(world, d))

    world.broken.clear()
    world.settle()

    assert had < len(owned(world, d))
    owners_have(world)


# -- several at once -------------------------------------------------------------------------------


def test_two_nodes_that_join_at_once_both_gain_what_is_theirs() -> None:
    world = settled_town(3, slice_keys=2)
    reader = Reader(world)

    world.join()
    world.join()
    world.settle()

    assert reader.check() > 200
    for node in world.ids:
        assert served(world, node) == kept(world, node) == owned(world, node)
    owners_have(world)


def test_a_second_change_while_the_first_is_on_its_way_loses_nothing() -> None:
    world = settled_town(3, slice_keys=2, moves_max=1)
    reader = Reader(world)

    world.join()
    world.advance(200)
    assert not world.settled()
    world.join()
    world.settle()

    assert reader.check() > 200
    owners_have(world)


def test_moves_keep_to_their_pace() -> None:
    world = settled_town(3, slice_keys=1, move_bytes_per_s=1000)
    start = world.now

    world.join()
    world.settle(ms=60_000)

    seconds = (world.now - start) / 1000
    assert moved_bytes(world) <= 1000 * (seconds + 1) + 200
    assert seconds > moved_bytes(world) / 1000 - 2


def test_no_more_partitions_come_in_at_a_time_than_may() -> None:
    world = settled_town(3, slice_keys=1, moves_max=2)
    most = 0

    def look() -> None:
        nonlocal most
        for node in world.nodes.values():
            gains = [row for row in node.moves.progress() if row.kind == "gain"]
            most = max(most, len([row for row in gains if row.phase != "waits"]))

    world.watch = look
    world.join()
    world.settle()

    assert most == 2


def test_moves_do_not_count_as_requests_in_flight() -> None:
    world = settled_town(3, slice_keys=1)

    world.join()
    world.settle()

    for node in world.nodes.values():
        assert node.local.background == len(node.local.requests) == 0
        assert node.moves.giving == 0


def kinds(world: World) -> set[type[Message]]:
    return {type(message) for _, _, message in world.sent}


def test_a_cluster_at_rest_says_nothing_of_moves() -> None:
    world = settled_town(3)
    world.join()
    world.settle()
    world.sent.clear()

    world.advance(5000)

    assert not kinds(world) & {Pull, Slice, GiveUp, GaveUp, Match, Matched}


def test_a_joiner_that_has_heard_only_of_a_removal_takes_nothing_for_its_own() -> None:
    """News come in parts: with no word of those who are in it seems to be the only node."""
    world = settled_town(3)
    gone = Ruling(b"gone" * 2, "gone", REMOVED, "z", 1.0, 9, b"")
    world.lose = lambda source, target, message: isinstance(message, News | Rows)
    joiner = world.join()
    node = world.nodes[joiner]

    node.receive(world.ids[0], News([], [gone]))
    world.advance(3000)

    assert not node.local.serves
    assert not node.local.keeps
    assert not node.rounds.whole
