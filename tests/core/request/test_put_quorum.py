"""Puts: when W nodes have it, who they are, and what is said if they don't (Dynamo 4.5, 4.6)."""

from __future__ import annotations

from itertools import product

import pytest
from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.config import NodeConfig
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


@pytest.mark.parametrize(
    ("nodes", "there"), [(1, "The cluster has 1 node, so"), (2, "The cluster has 2 nodes, so")]
)
def test_who_asks_for_more_nodes_than_there_are_is_not_told_to_try_again(
    nodes: int, there: str
) -> None:
    world = World(nodes)
    node = world.order()[0]

    for failed, less in (
        (world.refused_put(node, b"v", w=nodes + 1), "write with a smaller w, or add nodes."),
        (world.refused_get(node, r=nodes + 1), "read with a smaller r, or add nodes."),
    ):
        assert failed.code == "quorum_not_met"
        assert there in failed.hint
        assert failed.hint.endswith(less)
        assert "Try again" not in failed.hint


def test_who_asks_while_nodes_are_down_may_try_again() -> None:
    world = World(3)
    first, *others = world.order()
    world.kill(*others)

    assert "Try again, or write" in world.refused_put(first, b"v", w=2).hint
    assert "Try again, or read" in world.refused_get(first, r=2).hint


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
