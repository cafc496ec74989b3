"""Who takes the copy of an owner that does not answer a put, and when."""

from __future__ import annotations

from tests.core.request.test_put_quorum import LATE_MS, silence
from tests.core.world import TIMEOUT_MS, World

from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import STORED, PutReply, StoreReply


def test_for_each_owner_that_is_down_the_next_node_stands_in_and_is_told_for_whom() -> None:
    world = World(5)
    a, b, c, d, e = world.order()
    world.kill(b, c)

    done = world.put(a, b"v", w=3)

    assert (done.owners, done.fallbacks) == (1, 2)
    assert world.hint(d) == ([b], [b"v"])
    assert world.hint(e) == ([c], [b"v"])
    assert world.values(d) == [], "a stand-in's copy is kept apart from its own keys"


def test_a_strict_put_counts_only_owners_but_stand_ins_get_their_copies() -> None:
    world = World(5)
    a, _b, c, d, _ = world.order()
    world.kill(c)

    done = world.put(a, b"v", w=2, strict=True)

    assert (done.owners, done.required) == (2, 2)
    assert world.hint(d) == ([c], [b"v"])
    failed = world.refused_put(a, b"v", w=3, strict=True)
    assert (failed.code, failed.outcome) == ("quorum_not_met", "none")


def test_an_owner_that_stays_silent_gets_a_stand_in_after_spare_after_ms() -> None:
    world = World(4, spare_after_ms=100)
    a, b, c, d = world.order()
    silence(world, b, c)
    client = world.send_put(a, b"v", w=2)
    world.advance(80)
    assert world.answers[client] == []

    world.advance(60)

    done = world.reply(client, PutReply)
    assert (done.owners, done.fallbacks) == (1, 1)
    assert world.hint(d) == ([b], [b"v"])


def test_a_silent_owner_gets_a_stand_in_though_the_put_was_answered_long_before() -> None:
    """Else its copy would be missing until somebody reads the key."""
    world = World(4)
    a, _b, c, d = world.order()
    silence(world, c)

    done = world.put(a, b"v", w=2)
    assert world.hint(d) == ([], [])
    world.advance(LATE_MS + 200)

    assert done.owners == 2
    assert world.hint(d) == ([c], [b"v"])


def test_an_owner_that_is_up_and_late_gets_no_stand_in_for_a_put_that_was_answered() -> None:
    """In an overloaded cluster all are late, and hints for all would be half the work again."""
    world = World(4)
    a, _b, c, d = world.order()
    silence(world, c)
    world.put(a, b"v", w=2)
    world.advance(LATE_MS - 200)
    world.silent.clear()

    world.nodes[a].receive(c, StoreReply(*world.nodes[a].local.requests, STORED, True))
    world.advance(LATE_MS)

    assert world.hint(d) == world.hint(a) == ([], [])
    assert not world.nodes[a].local.requests


def test_who_is_late_for_an_answered_put_gets_a_stand_in_once_it_is_down() -> None:
    world = World(4)
    a, _b, c, d = world.order()
    silence(world, c)
    world.put(a, b"v", w=2)
    world.advance(LATE_MS - 200)
    assert world.hint(d) == ([], [])

    world.kill(c)
    world.run()

    assert world.hint(d) == ([c], [b"v"])


def test_where_many_puts_wait_for_late_owners_the_oldest_get_stand_ins_one_for_one() -> None:
    """A node whose disk hangs is up, and must not fill the table of requests; nor do all that wait
    get stand-ins at the moment at which there are too many.
    """
    world = World(4, in_flight_max=40)
    a, _b, c, d = world.order()
    silence(world, c)
    some = (data_key(b"carts", b"%d" % number) for number in range(1000))
    keys = [key for key in some if world.order(key) == world.order()][:14]
    for key in keys:
        world.put(a, b"v", w=2, key=key)
        world.advance(40)

    world.advance(LATE_MS // 2 - 40)

    hinted = [world.hint(d, key)[0] == [c] for key in keys]
    assert hinted == [True] * 4 + [False] * 10, "a quarter of 40 may wait"
    assert len(world.nodes[a].local.requests) == len(world.nodes[a].local.patience) == 10


def test_puts_that_wait_take_no_room_from_each_other_once_they_are_over() -> None:
    world = World(4, in_flight_max=8)
    a, _b, c, d = world.order()
    local = world.nodes[a].local
    silence(world, c)
    world.put(a, b"1", w=2)
    world.advance(LATE_MS - 300)
    assert len(local.patience) == 1

    world.silent.clear()
    world.nodes[a].receive(c, StoreReply(*local.requests, STORED, True))
    world.run()

    assert (len(local.patience), local.held_bytes) == (0, 0)
    assert world.hint(d) == ([], [])


def test_an_owner_whose_connection_breaks_gets_a_stand_in_at_once() -> None:
    world = World(4)
    a, b, c, d = world.order()
    silence(world, b, c)
    client = world.send_put(a, b"v", w=2)
    world.run()

    world.kill(b)
    world.run()

    assert world.reply(client, PutReply).fallbacks == 1
    assert world.hint(d) == ([b], [b"v"])


def test_an_owner_that_refuses_gets_a_stand_in_at_once() -> None:
    world = World(4)
    a, b, _c, d = world.order()
    world.full |= {b}

    done = world.put(a, b"v", w=3)

    assert (done.owners, done.fallbacks) == (2, 1)
    assert world.hint(d) == ([b], [b"v"])


def test_a_stand_in_that_fails_gets_a_stand_in_for_the_same_owner() -> None:
    world = World(5)
    a, b, _c, d, e = world.order()
    world.full |= {b, d}

    done = world.put(a, b"v", w=3)

    assert (done.owners, done.fallbacks) == (2, 1)
    assert world.hint(e) == ([b], [b"v"])


def test_with_nobody_to_stand_in_the_coordinator_keeps_the_note_itself() -> None:
    world = World(3)
    a, _b, c = world.order()
    world.kill(c)

    done = world.put(a, b"v")

    assert (done.owners, done.fallbacks) == (2, 0), "the note beside its own copy counts for none"
    assert world.hint(a) == ([c], [b"v"])


def test_with_nobody_to_stand_in_a_silent_owner_gets_a_note_too() -> None:
    world = World(3)
    a, _b, c = world.order()
    silence(world, c)

    world.put(a, b"v")
    world.advance(LATE_MS + 200)

    assert world.hint(a) == ([c], [b"v"])


def test_a_put_that_fails_in_time_with_nobody_to_stand_in_keeps_notes() -> None:
    world = World(3)
    a, b, c = world.order()
    silence(world, b, c)

    client = world.send_put(a, b"v", w=2, timeout_ms=LATE_MS)
    world.advance(LATE_MS + 200)

    assert world.failure(client).outcome == "unknown"
    assert set(world.hint(a)[0]) == {b, c}


def test_where_large_puts_wait_for_late_owners_they_get_stand_ins_as_soon_as_ever() -> None:
    world = World(4, held_bytes_max=4_000)
    a, _b, c, d = world.order()
    silence(world, c)
    for _ in range(3):
        world.put(a, b"v" * 400, w=2)

    world.advance(200)

    assert world.hint(d)[0] == [c]


def test_with_nobody_to_stand_in_who_is_late_has_as_much_time_though_the_client_waits() -> None:
    """A note beside the own copy counts for nothing, so the client gains nothing by it."""
    world = World(3)
    a, b, c = world.order()
    silence(world, b, c)
    client = world.send_put(a, b"v", w=2)
    world.advance(LATE_MS - 200)

    world.silent.clear()
    for owner in (b, c):
        world.nodes[a].receive(owner, StoreReply(*world.nodes[a].local.requests, STORED, True))
    world.advance(LATE_MS)

    assert world.reply(client, PutReply).owners == 2
    assert world.hint(a) == ([], [])


def test_a_stand_in_that_is_silent_after_the_answer_is_replaced() -> None:
    """The put is long answered, but its third copy must not get lost on the way to a stand-in."""
    world = World(5)
    a, _b, c, d, e = world.order()
    silence(world, c, d)

    world.put(a, b"v", w=2)
    world.advance(TIMEOUT_MS + 200)

    assert world.hint(e) == ([c], [b"v"])


def test_a_silent_stand_in_does_not_keep_a_put_from_its_quorum() -> None:
    world = World(5)
    a, b, c, d, e = world.order()
    silence(world, b, c, d)

    client = world.send_put(a, b"v", w=2)
    world.advance(400)

    assert world.reply(client, PutReply).fallbacks == 1
    assert world.hint(e)[1] == [b"v"]
