"""The disk's part in a request: messages that wait for a read, and batches that are not written."""

from __future__ import annotations

from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.data.epochs import Epochs
from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import (
    BUSY,
    REFUSED,
    Fetch,
    FetchReply,
    GetReply,
    PutReply,
    Store,
    StoreReply,
)
from everwrite.core.records import OWN

OTHER = data_key(b"carts", b"bob")


def cold(world: World, *nodes: bytes) -> None:
    """Empty the caches, and hold back what the disks find."""
    for node in nodes:
        world.nodes[node].local.records.forget([OWN + KEY])
        world.unread.add(node)


def warm(world: World) -> None:
    world.unread.clear()
    world.run()


# -- waiting for a read ----------------------------------------------------------------------------


def test_a_put_waits_for_what_the_disk_has_and_is_minted_on_top_of_it() -> None:
    world = World(3)
    a, *_ = world.order()
    first = world.put(a, b"v1")
    cold(world, a)

    client = world.send_put(a, b"v2", context=first.context)
    world.run()
    assert world.answers[client] == []
    warm(world)

    assert world.reply(client, PutReply).siblings == 1
    assert world.values(a) == [b"v2"]


def test_all_that_waits_for_one_key_costs_one_read_and_is_done_in_order() -> None:
    world = World(3)
    a, *_ = world.order()
    cold(world, a)
    clients = [world.send_put(a, b"%d" % number, w=1) for number in range(5)]
    reader = world.send_get(a, r=3)
    world.run()
    assert world.nodes[a].local.records.parked_count == 6

    warm(world)

    assert [world.reply(client, PutReply).siblings for client in clients] == [1, 2, 3, 4, 5]
    assert len(world.reply(reader, GetReply).values) == 5
    assert world.nodes[a].local.records.parked_count == 0


def test_a_key_that_waits_holds_up_no_other() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", key=OTHER)
    cold(world, a)
    world.send_put(a, b"v", w=1)
    world.run()

    assert world.put(a, b"w", key=OTHER, w=1)


def test_a_read_of_the_disk_does_not_write_over_what_came_meanwhile() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.put(a, b"v1", w=3)
    cold(world, b)
    world.send_get(a, r=3)
    world.put(a, b"v2", w=2)
    warm(world)

    assert world.values(b) == [b"v1", b"v2"]
    assert sorted(v for _, v in world.get(b, r=1).values) == [b"v1", b"v2"]


def test_over_the_cap_a_put_is_refused_with_when_to_come_back() -> None:
    world = World(3, parked_max=1)
    a, *_ = world.order()
    cold(world, a)
    world.send_put(a, b"v")
    world.run()

    failed = world.refused_put(a, b"w")

    assert (failed.code, failed.outcome) == ("overloaded", "none")
    assert failed.retry_after_ms > 0
    assert failed.hint.startswith("Nothing was done.")


def test_over_the_cap_a_replica_says_that_it_is_busy_and_another_one_answers() -> None:
    world = World(5, parked_max=1)
    a, b, *_ = world.order()
    world.put(a, b"v", w=3)
    cold(world, b)
    world.nodes[b].receive(a, Fetch(7, KEY, TIMEOUT_MS))
    world.run()

    found = world.get(a, r=3)

    assert found.values == [(0, b"v")]
    assert [reply.status for reply in world.messages(FetchReply, to=a)].count(BUSY) == 1


def test_over_the_cap_a_store_is_refused_and_a_stand_in_takes_the_copy() -> None:
    world = World(5, parked_max=1)
    a, b, _c, d, _e = world.order()
    cold(world, b)
    world.nodes[b].receive(a, Fetch(7, KEY, TIMEOUT_MS))
    world.run()

    done = world.put(a, b"v", w=3)

    assert (done.owners, done.fallbacks) == (2, 1)
    assert world.hint(d) == ([b], [b"v"])


def test_work_whose_deadline_passed_while_it_waited_is_not_done() -> None:
    world = World(3)
    a, b, _c = world.order()
    cold(world, b)
    world.nodes[b].receive(a, Fetch(7, KEY, TIMEOUT_MS))
    world.nodes[b].receive(a, Store(8, KEY, b"\x92\x80\x90", TIMEOUT_MS, 0))
    world.nodes[b].receive(a, Store(9, KEY, b"\x92\x80\x90", 5 * TIMEOUT_MS, 0))
    world.run()
    world.sent.clear()

    world.advance(2 * TIMEOUT_MS)
    warm(world)

    assert [reply.status for reply in world.messages(FetchReply, to=a)] == [BUSY]
    replies = {reply.rid: reply.status for reply in world.messages(StoreReply, to=a)}
    assert replies[8] == REFUSED
    assert replies[9] != REFUSED
    assert world.nodes[b].local.counters.expired == 2


def test_a_put_whose_deadline_passed_while_it_waited_is_not_done() -> None:
    """Its client has given up: what it wanted must not appear long after."""
    world = World(3)
    a, *_ = world.order()
    cold(world, a)
    client = world.send_put(a, b"v")
    world.run()

    world.advance(2 * TIMEOUT_MS)
    warm(world)

    failed = world.failure(client)
    assert (failed.code, failed.outcome) == ("deadline_exceeded", "none")
    assert not any(world.disk.values())


def test_a_put_that_waited_has_only_the_rest_of_its_time() -> None:
    world = World(3)
    a, b, c = world.order()
    cold(world, a)
    world.silent |= {b, c}
    client = world.send_put(a, b"v", w=2)
    world.advance(TIMEOUT_MS // 2)
    warm(world)

    world.advance(TIMEOUT_MS // 2 + 60)

    failed = world.failure(client)
    assert (failed.outcome, failed.acked) == ("unknown", 1)


# -- batches that are not written ------------------------------------------------------------------


def test_a_full_disk_turns_its_acks_into_refusals_and_others_take_the_write() -> None:
    world = World(5)
    a, b, c, d, _e = world.order()
    world.full |= {a}

    done = world.put(a, b"v", w=3)

    assert (done.owners, done.fallbacks) == (2, 1)
    assert world.disk[a] == {}
    assert world.hint(d) == ([a], [b"v"])
    assert world.values(b) == world.values(c) == [b"v"]
    assert world.nodes[a].local.counters.writes_failed == 1


def test_with_nobody_to_stand_in_the_others_keep_a_note_for_the_one_whose_disk_is_full() -> None:
    """The coordinator cannot note it itself: its disk is the full one."""
    world = World(3)
    a, b, c = world.order()
    world.full |= {a}

    done = world.put(a, b"v", w=2)
    world.run()

    assert (done.owners, done.fallbacks) == (2, 0)
    assert world.hint(b) == world.hint(c) == ([a], [b"v"])
    world.full.clear()
    world.advance(5000)
    assert world.values(a) == [b"v"]
    assert world.hint(b) == world.hint(c) == ([], [])


def test_no_node_counts_a_copy_that_a_full_disk_did_not_take() -> None:
    world = World(3)
    a, b, c = world.order()
    world.full |= {b, c}

    failed = world.refused_put(a, b"v", w=2)

    assert (failed.code, failed.acked, failed.required) == ("quorum_not_met", 1, 2)
    assert failed.outcome == "partial"


def test_a_put_that_every_disk_refused_says_that_they_did_and_what_to_do() -> None:
    world = World(1)
    (a,) = world.ids
    world.full |= {a}

    failed = world.refused_put(a, b"v")

    assert (failed.code, failed.outcome) == ("quorum_not_met", "unknown")
    assert "1 refused it" in failed.message
    assert "disk" in failed.hint
    assert world.disk[a] == {}


def test_a_node_with_a_full_disk_still_serves_reads() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    world.full |= {a, b, c}

    assert world.get(a, r=3).values == [(0, b"v")]


def test_what_a_full_disk_did_not_take_is_not_shown_from_memory() -> None:
    world = World(3)
    a, b, c = world.order()
    world.full |= {a}
    world.silent |= {b, c}
    world.send_put(a, b"v", w=3)
    world.run()

    client = world.send_get(a, r=1)
    world.advance(world.config.spare_after_ms + 40)
    assert world.reply(client, GetReply).values == []


def test_after_a_batch_that_was_not_written_no_dot_is_minted_twice() -> None:
    """The others may have got the copy of which nothing is on this disk."""
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"before", w=3)
    world.full |= {a}
    world.lose = lambda source, target, message: target == c
    world.send_put(a, b"lost here", w=1)
    world.run()
    world.full.clear()
    world.lose = lambda source, target, message: b in (source, target)
    world.put(a, b"after", w=1)
    world.lose = lambda source, target, message: False

    found = sorted(value for _, value in world.get(c, r=3).values)

    assert found == [b"after", b"before", b"lost here"]


def test_a_node_whose_disk_was_full_for_long_takes_writes_again() -> None:
    """The lease of new epochs could not be written either."""
    world = World(1)
    (a,) = world.ids
    node = world.nodes[a]
    node.local.epochs = Epochs(a, 1, 7, block=8)
    world.full |= {a}
    for number in range(50):
        world.refused_put(a, b"v", key=data_key(b"b", b"%d" % number))

    world.full.clear()
    first = world.send_put(a, b"v", key=data_key(b"b", b"first"))
    world.run()
    assert getattr(world.answers[first][0], "code", "") in ("", "unavailable")

    for number in range(50):
        assert world.put(a, b"v", key=data_key(b"b", b"%d" % number))


def test_epochs_are_leased_on_disk_before_the_block_is_used_up() -> None:
    world = World(3)
    a, *_ = world.order()
    world.nodes[a].local.epochs = epochs = Epochs(a, 1, 7, block=8)

    for number in range(100):
        key = data_key(b"b", b"%d" % number)
        if world.order(key)[0] == a:
            assert world.put(a, b"v", key=key)
            lease = world.state[a].get(b"mlease")
            used = epochs._next
            assert used <= 8 or (lease is not None and int.from_bytes(lease, "big") >= used)
