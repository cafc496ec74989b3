"""What the simulator found in the core, each fault in its smallest form."""

from __future__ import annotations

from tests.core.world import KEY, SECRET, TIMEOUT_MS, World

from everwrite.core.data import context, versions
from everwrite.core.data.epochs import EPOCH_BLOCK
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.messages.requests import (
    NOT_HERE,
    STORED,
    SYNC_NO,
    SYNC_YES,
    Fetch,
    FetchReply,
    Put,
    PutReply,
    Store,
    StoreReply,
)
from everwrite.core.records import HINT, OWN
from everwrite.core.request.look import LookedAround


def forget(world: World, *nodes: bytes) -> None:
    """Empty the caches of these nodes."""
    for node in nodes:
        world.nodes[node].local.records.forget([OWN + KEY, HINT + KEY])


def test_a_put_that_looked_around_and_then_waits_for_the_disk_is_carried_out() -> None:
    world = World(3)
    a, _, _ = world.order()
    world.put(a, b"old")
    client = world.send_put(a, b"new", retry=True)
    forget(world, a)

    world.run()

    assert world.reply(client, PutReply).siblings == 2


def test_an_answer_to_an_earlier_run_finds_no_request_of_this_one() -> None:
    world = World(3)
    a, b, _ = world.order()
    world.lose = lambda source, target, message: target == a and isinstance(message, StoreReply)
    world.send_put(a, b"before", w=2)
    world.run()
    (earlier,) = world.nodes[a].local.requests
    world.kill(a)
    world.start(a)
    client = world.send_put(a, b"after", w=2)
    world.run()

    world.nodes[a].receive(b, StoreReply(earlier, STORED, True))
    world.run()

    assert world.answers[client] == []


def test_a_stand_in_whose_hint_is_gone_says_that_it_has_nothing() -> None:
    world = World(4)
    a, _, _, d = world.order()
    hints = world.nodes[d].hints
    hints.kept.note(KEY, a, 0, "stored")  # as after a hint whose batch was not written
    world.nodes[d].local.records.write(HINT + KEY, None)

    world.nodes[d].receive(a, Fetch(1, KEY, 1000))
    world.run()

    (reply,) = world.messages(FetchReply, to=a)
    assert (reply.status, reply.fallback, reply.record) == (NOT_HERE, False, b"")


def test_a_put_taken_over_and_refused_is_not_called_undone() -> None:
    world = World(4)
    a, b, c, d = world.order()
    world.lose = lambda source, target, message: target == d and isinstance(message, PutReply)
    client = world.send_put(d, b"v", w=2)
    world.run()

    world.kill(a, b, c)
    world.advance(400)

    assert world.failure(client).outcome == "unknown"


def test_a_node_without_epochs_refuses_puts_and_leases_as_soon_as_its_disk_takes_it() -> None:
    world = World(1)
    (a,) = world.ids
    epochs = world.nodes[a].local.epochs
    epochs._next = epochs.leased_to = EPOCH_BLOCK + 1

    refused = world.refused_put(a, b"too early")

    assert (refused.code, refused.outcome) == ("unavailable", "none")
    assert world.put(a, b"later").owners == 1


def test_a_hint_struck_out_on_a_full_disk_is_struck_out_again_later() -> None:
    world = World(4)
    a, _, _, d = world.order()
    world.kill(a)
    world.put(d, b"v")
    assert world.hint(d) == ([a], [b"v"])
    world.full.add(d)
    world.start(a)
    assert world.hint(d) == ([a], [b"v"])

    world.full.clear()
    world.advance(10_000)

    assert world.hint(d) == ([], [])
    assert world.nodes[d].hints.notes == 0


def test_a_single_dot_that_nobody_could_find_stays_named_in_the_answer() -> None:
    unfound = (b"a" * 16, 2)
    written = Version(b"b" * 16, 1, b"v", 0, b"op")
    alone = versions.put(Record({}, []), Seen({}, [unfound]), written)
    other = Version(b"c" * 16, 1, b"w", 0, b"op2")
    beside = Record({b"b" * 16: 1, b"c" * 16: 1}, [written, other])

    for record in (alone, beside):
        assert unfound in versions.seen_after(record, Seen({}, [unfound]), written).dots


def test_a_retry_of_a_put_that_was_superseded_meanwhile_does_not_bring_it_back() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"first", op=b"retried", w=3)
    token = world.get(a).context
    world.silent.add(c)
    world.put(a, b"second", context=token, w=2)
    world.silent.clear()

    world.put(b, b"first", op=b"retried", retry=True)

    assert [value for _, value in world.get(a, r=3).values] == [b"second"]


def test_a_retry_is_carried_on_though_its_coordinator_cannot_write_its_own_copy() -> None:
    world = World(3)
    a, b, c = world.order()
    world.silent |= {b, c}
    world.put(a, b"v", op=b"retried", w=1)
    world.silent.clear()
    forget(world, c)
    world.unread.add(c)
    world.full.add(b)
    client = world.send_put(b, b"v", op=b"retried", retry=True)
    world.run()

    world.unread.clear()
    world.run()

    assert world.reply(client, PutReply).owners == 2
    assert world.record(c) == world.record(a)
    assert len(world.record(a).siblings) == 1


def test_a_retry_is_made_on_what_was_seen_when_its_hint_went_home_meanwhile() -> None:
    """A stand-in that owns nothing of the key looks around; its copy must not be needed later."""
    world = World(3)
    a, b, _ = world.order()
    world.put(a, b"v", op=b"retried", w=3)
    client = world.send_get(a)
    world.run()
    node = world.nodes[b]
    forget(world, b)
    world.disk[b].clear()
    record = versions.encode(world.record(a))
    put = Put(1, KEY, b"v", b"", b"retried", TIMEOUT_MS, retry=True, w=1)
    (found,) = world.record(a).siblings

    node.receive(b, LookedAround(client, put, found, None, record))
    world.run()

    assert world.record(b) == world.record(a)


def test_a_retry_known_from_a_copy_that_was_lost_meanwhile_is_refused() -> None:
    world = World(3)
    first = world.order()[0]
    put = Put(1, KEY, b"v", b"", b"retried", TIMEOUT_MS, retry=True)
    client = world.send_put(first, b"other", op=b"other")
    world.run()

    world.nodes[first].receive(first, LookedAround(client, put, known={b"a" * 16: 1}))
    world.run()

    assert world.answers[client][-1].outcome == "unknown"
    assert [version.value for version in world.record(first).siblings] == [b"other"]


def test_a_hint_is_delivered_durably_on_nodes_that_do_not_fsync_either() -> None:
    world = World(4, fsync=False)
    a, _, _, d = world.order()
    world.kill(a)
    world.put(d, b"v", dw=1)

    world.start(a)
    world.unsynced.add(a)

    (delivery,) = [store for store in world.messages(Store, to=a) if store.rid]
    assert delivery.sync == SYNC_YES


def test_an_answer_to_a_superseded_retry_covers_nothing_that_its_writer_has_not_seen() -> None:
    world = World(3)
    a, b, _ = world.order()
    world.put(a, b"first", op=b"retried", w=3)
    token = world.get(a).context
    world.silent.add(b)
    world.put(a, b"second", context=token, w=2)
    world.silent.clear()

    done = world.put(b, b"first", op=b"retried", retry=True)

    seen = context.verify(SECRET, KEY, done.context)
    unseen = world.record(a).siblings[0]
    assert not versions.covers(seen.clock, unseen.actor, unseen.counter)


def test_a_retry_that_was_superseded_stays_so_though_its_coordinator_cannot_write() -> None:
    world = World(3)
    a, b, c = world.order()
    world.silent |= {b, c}
    world.put(a, b"first", op=b"retried", w=1)
    world.put(a, None, context=world.get(a, r=1).context, w=1)
    world.silent.clear()
    forget(world, c)
    world.unread.add(c)
    world.full.add(b)
    client = world.send_put(b, b"first", op=b"retried", retry=True)
    world.run()

    world.unread.clear()
    world.run()

    assert world.reply(client, PutReply).owners == 2
    assert versions.live(world.record(c)) == []
    assert world.disk[b] == {}


def test_a_stand_in_does_not_say_that_it_knows_a_put_whose_hint_is_gone() -> None:
    world = World(4)
    a, b, _, d = world.order()
    world.kill(a)
    world.put(b, b"v", op=b"retried", w=3)
    assert world.hint(d) == ([a], [b"v"])
    world.start(a)
    world.advance(1000)
    assert world.hint(d) == ([], [])

    world.nodes[d].receive(b, Fetch(1, KEY, 1000, b"", False, b"retried"))
    world.run()

    assert not world.messages(FetchReply, to=b)[-1].op_known


def test_an_owner_whose_hint_has_rotted_answers_with_its_own_copy() -> None:
    world = World(3)
    a, _, c = world.order()
    world.kill(c)
    world.put(a, b"v", w=2)
    assert world.hint(a) == ([c], [b"v"])
    world.rotten.add((a, HINT + KEY))
    forget(world, a)
    world.nodes[a].hints.doubt(KEY)
    world.run()

    read = world.get(a, r=2)

    assert read.quality.owners == 2 and read.quality.unreadable == 0


def test_a_damaged_owner_gets_a_hint_though_all_other_owners_have_lost_theirs() -> None:
    world = World(4)
    a, b, c, d = world.order()
    world.kill(a)
    world.put(b, b"v", w=3)
    assert world.hint(d) == ([a], [b"v"])
    for node in (b, c):
        world.kill(node)
        world.disk[node].clear()
    world.disk[a][OWN + KEY] = b"damaged"
    world.rotten.add((a, OWN + KEY))

    world.start(a, b, c)
    world.advance(10_000)

    assert [world.values(node) for node in (a, b, c)] == [[b"v"]] * 3
    assert world.hint(d) == ([], [])


def kept_for_two(world: World) -> None:
    """Let the fourth node keep one copy for the first two, which are down, and damage it."""
    a, b, c, d = world.order()
    world.put(c, b"v", w=3)
    world.kill(a, b)
    for owner in (a, b):
        store = Store(1, KEY, versions.encode(world.record(c)), 1000, SYNC_NO, owner)
        world.nodes[d].receive(c, store)
        world.run()
    assert world.hint(d) == (sorted((a, b)), [b"v"])
    world.rotten.add((d, HINT + KEY))
    forget(world, d)


def test_a_hint_that_takes_the_place_of_a_damaged_one_is_for_the_same_owners() -> None:
    world = World(4)
    kept_for_two(world)
    a, b, c, d = world.order()

    world.nodes[d].receive(c, Store(2, KEY, versions.encode(world.record(c)), 1000, SYNC_NO, a))
    world.run()

    assert world.hint(d) == (sorted((a, b)), [b"v"])
    assert sorted(world.nodes[d].hints.owners_of[KEY]) == sorted((a, b))


def test_a_damaged_hint_is_given_up_for_all_its_owners_at_once() -> None:
    world = World(4)
    kept_for_two(world)
    a, _, _, d = world.order()

    world.start(a)
    world.advance(1000)

    assert world.hint(d) == ([], [])
    assert world.nodes[d].hints.notes == 0
    assert not world.nodes[d].hints.waiting


def test_damage_is_counted_whoever_comes_upon_it() -> None:
    world = World(3)
    a, _, c = world.order()
    world.kill(c)
    world.put(a, b"v", w=2)
    world.rotten.add((a, HINT + KEY))
    forget(world, a)

    world.nodes[a].hints.doubt(KEY)
    world.run()

    assert world.nodes[a].local.counters.unreadable == 1
