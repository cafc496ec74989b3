"""Puts: when W nodes have it, who they are, and what is said if they don't (Dynamo 4.5, 4.6)."""

from __future__ import annotations

from itertools import product

import pytest
from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.config import NodeConfig
from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import STORED, Failure, PutReply, Store, StoreReply
from everwrite.core.request.spread import LATE_TIMES

LATE_MS = LATE_TIMES * NodeConfig().spare_after_ms


def silence(world: World, *nodes: bytes) -> None:
    world.silent.update(nodes)


# -- N, W, strict ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_put_goes_to_the_first_n_nodes_of_the_preference_list(n: int) -> None:
    world = World(5)

    done = world.put(world.order()[0], b"v", n=n, w=n)

    assert done.owners == n
    assert [world.values(node) for node in world.order()] == [[b"v"]] * n + [[]] * (5 - n)


@pytest.mark.scenario(52)
@pytest.mark.parametrize(
    ("nodes", "w", "down", "strict"),
    list(product((3, 5), (1, 2, 3), (0, 1, 2), (False, True))),
)
def test_a_put_succeeds_exactly_while_w_nodes_that_count_can_be_reached(
    nodes: int, w: int, down: int, strict: bool
) -> None:
    world = World(nodes)
    owners = world.order()[:3]
    world.kill(*owners[1 : 1 + down])
    reachable = 3 if nodes - down >= 3 and not strict else 3 - down

    client = world.send_put(owners[0], b"v", w=w, strict=strict)
    world.run()

    if reachable >= w:
        done = world.reply(client, PutReply)
        assert done.owners + (0 if strict else done.fallbacks) >= w
        assert done.required == w
    else:
        failed = world.failure(client)
        assert (failed.code, failed.outcome) == ("quorum_not_met", "none")
        assert failed.required == w
        assert not any(world.disk.values())


def test_any_single_node_that_is_up_takes_a_put_with_w_1() -> None:
    """P1: it need not even be one that owns the key."""
    world = World(5)
    *others, last = world.order()
    world.kill(*others)

    done = world.put(last, b"v", w=1)

    assert (done.owners, done.fallbacks) == (0, 1)
    assert set(world.hint(last)[0]) == set(others[:3])


def test_a_put_is_answered_at_w_acks_and_not_before() -> None:
    world = World(3)
    a, b, c = world.order()
    silence(world, b, c)

    client = world.send_put(a, b"v", w=2)
    world.run()
    assert world.answers[client] == []
    world.silent.clear()
    world.nodes[a].receive(b, StoreReply(*world.nodes[a].local.requests, STORED, True))
    world.run()

    assert world.reply(client, PutReply).owners == 2


def test_the_same_node_is_never_counted_twice() -> None:
    world = World(3)
    a, b, c = world.order()
    silence(world, b, c)
    client = world.send_put(a, b"v", w=3)
    world.run()

    for _ in range(3):
        world.nodes[a].receive(b, StoreReply(*world.nodes[a].local.requests, STORED, True))
    world.run()

    assert world.answers[client] == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 4}, "n = 4 is not possible: the cluster keeps 3 copies."),
        ({"w": 4}, "w = 4 is not possible with n = 3."),
        ({"n": 2, "w": 3}, "w = 3 is not possible with n = 2."),
        ({"dw": 4}, "dw = 4 is not possible with n = 3."),
        ({"n": -1}, "n = -1 is not possible: the cluster keeps 3 copies."),
        ({"w": -1}, "w = -1 is not possible with n = 3."),
        ({"dw": -2}, "dw = -2 is not possible with n = 3."),
        ({"op": b""}, "A put needs a request id of 1 to 32 bytes."),
        ({"op": b"o" * 33}, "A put needs a request id of 1 to 32 bytes."),
    ],
)
def test_impossible_numbers_are_refused_with_what_is_possible(options: dict, says: str) -> None:
    world = World(3)

    failed = world.refused_put(world.order()[0], b"v", **options)

    assert (failed.code, failed.outcome, failed.message) == ("bad_request", "none", says)
    assert failed.hint.startswith("Use ")
    assert not any(world.disk.values())


def test_a_cluster_smaller_than_its_replicas_counts_with_the_nodes_there_are() -> None:
    world = World(2, replicas=3)
    a, _ = world.order()

    assert world.put(a, b"v").required == 2
    failed = world.refused_put(a, b"w", w=3)
    assert (failed.code, failed.outcome, failed.required) == ("quorum_not_met", "none", 3)


# -- dw: how many of the acks stand for an fsync ---------------------------------------------------


def test_by_default_all_w_acks_stand_for_an_fsync() -> None:
    world = World(3)
    a, b, c = world.order()
    world.unsynced |= {b, c}

    client = world.send_put(a, b"v", w=2)
    world.run()
    assert world.answers[client] == []
    world.unsynced.remove(b)
    world.run()

    done = world.reply(client, PutReply)
    assert (done.owners, done.durable) == (2, 2)


def test_without_fsync_a_put_waits_for_no_disk() -> None:
    world = World(3, fsync=False)
    world.unsynced |= set(world.ids)

    done = world.put(world.order()[0], b"v")

    assert done.durable == 0


def test_dw_0_waits_for_no_disk_on_a_node_with_fsync_either() -> None:
    world = World(3)
    world.unsynced |= set(world.ids)

    assert world.put(world.order()[0], b"v", dw=0).durable == 0


def test_dw_1_of_w_2_waits_for_one_disk() -> None:
    world = World(3)
    a, *_ = world.order()
    world.unsynced |= set(world.ids)

    client = world.send_put(a, b"v", w=2, dw=1)
    world.run()
    assert world.answers[client] == []
    world.unsynced.remove(a)
    world.run()

    done = world.reply(client, PutReply)
    assert (done.owners, done.durable) == (3, 1)


def test_dw_over_w_waits_for_that_many_disks() -> None:
    world = World(3)
    a, b, c = world.order()
    world.unsynced |= {b, c}

    client = world.send_put(a, b"v", w=1, dw=3)
    world.run()
    world.unsynced.remove(b)
    world.run()
    assert world.answers[client] == []
    world.unsynced.clear()
    world.run()

    assert world.reply(client, PutReply).durable == 3


def test_a_put_whose_fsyncs_are_missing_says_so() -> None:
    world = World(3)
    a, b, c = world.order()
    world.unsynced |= {b, c}

    client = world.send_put(a, b"v", w=2, dw=2)
    world.advance(TIMEOUT_MS + 100)

    failed = world.failure(client)
    assert (failed.code, failed.outcome) == ("quorum_not_met", "unknown")


def test_dw_counts_only_fsyncs_where_acks_come_before() -> None:
    world = World(3)
    a, b, c = world.order()
    world.unsynced |= {b, c}

    client = world.send_put(a, b"v", w=3, dw=2)
    world.advance(TIMEOUT_MS + 100)

    failed = world.failure(client)
    assert failed.message == "Only 1 of the 2 nodes that must fsync this write did in time."
    assert (failed.outcome, failed.acked, failed.required) == ("unknown", 3, 3)


# -- stand-ins -------------------------------------------------------------------------------------


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


# -- the shortcut ----------------------------------------------------------------------------------


def test_a_store_made_from_another_copy_than_a_replica_has_drops_no_sibling_there() -> None:
    """A replica writes a record over its copy unseen only if that copy is what it was made from."""
    world = World(3)
    a, b, c = world.order()
    first = world.put(a, b"old", w=3)
    world.lose = lambda source, target, message: True
    world.put(b, b"concurrent", w=1, context=first.context)
    world.lose = lambda source, target, message: target == c
    world.sent.clear()

    world.put(a, b"new", w=1, context=first.context)

    (store,) = world.messages(Store, to=b)
    assert store.base, "it names the copy that it was made from"
    assert world.values(a) == [b"new"]
    assert world.values(b) == [b"concurrent", b"new"]


# -- what an error says ----------------------------------------------------------------------------


def test_an_error_says_partial_where_fewer_than_w_nodes_have_it_for_sure() -> None:
    world = World(3)
    a, b, c = world.order()
    world.full |= {b, c}

    failed = world.refused_put(a, b"v", w=2)

    assert (failed.code, failed.outcome) == ("quorum_not_met", "partial")
    assert (failed.acked, failed.required) == (1, 2)
    assert failed.hint


@pytest.mark.parametrize("how", ["acks are lost", "one is lost"])
def test_an_error_says_unknown_where_those_who_did_not_answer_may_have_it(how: str) -> None:
    """The Stores arrived, so the write stands on all three; only nobody could say so."""
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: isinstance(message, StoreReply)

    client = world.send_put(a, b"v", w=2)
    world.run()
    if how == "one is lost":
        world.kill(b, c)
        world.run()
    world.advance(TIMEOUT_MS + 100)

    assert world.values(b) == world.values(c) == [b"v"]
    failed = world.failure(client)
    assert (failed.code, failed.outcome) == ("quorum_not_met", "unknown")
    assert (failed.acked, failed.required) == (1, 2)


def test_an_error_says_unknown_where_nobody_said_that_they_have_it() -> None:
    world = World(3)
    a, b, c = world.order()
    silence(world, b, c)
    world.unsynced |= {a}

    client = world.send_put(a, b"v", w=2)
    world.advance(TIMEOUT_MS + 100)

    failed = world.failure(client)
    assert (failed.outcome, failed.acked) == ("unknown", 0)


def test_a_put_that_failed_late_leaves_nothing_behind_in_the_table() -> None:
    world = World(3)
    a, b, c = world.order()
    silence(world, b, c)

    world.send_put(a, b"v", w=2)
    world.advance(2 * TIMEOUT_MS)

    assert world.nodes[a].local.requests == {}


def test_a_client_gets_exactly_one_answer_whatever_comes_late() -> None:
    world = World(5)
    a, b, *_ = world.order()
    client = world.send_put(a, b"v", w=3)
    world.run()
    world.kill(b)
    world.advance(2 * TIMEOUT_MS)

    assert [type(answer) for answer in world.answers[client]] == [PutReply]
    assert not world.messages(Failure)


def test_stores_carry_the_time_that_is_left() -> None:
    world = World(4)
    a, b, *_ = world.order()
    silence(world, b)

    world.send_put(a, b"v", w=3, key=KEY)
    world.run()
    world.advance(200)

    first, *_, last = world.messages(Store)
    assert first.left_ms == TIMEOUT_MS
    assert TIMEOUT_MS - 200 <= last.left_ms < TIMEOUT_MS
