"""Tries that come late: a put that was superseded since must not come back by one of them."""

from __future__ import annotations

import msgspec
import pytest
from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.messages.requests import Fetch, FetchReply, Put, PutReply
from everwrite.core.recent import GENERATION, RecentPuts
from everwrite.core.request.look import LookedAround


def superseded() -> tuple[World, list[bytes]]:
    """A put "once" that was carried out, read and deleted."""
    world = World(3)
    owners = world.order()
    world.put(owners[0], b"v", op=b"once", w=3)
    read = world.get(owners[0])
    world.put(owners[0], None, context=read.context, w=3)
    return world, owners


@pytest.mark.parametrize("through", [0, 1, 2])
def test_a_retry_of_a_put_that_was_deleted_since_brings_nothing_back(through: int) -> None:
    world, owners = superseded()

    again = world.put(owners[through], b"v", op=b"once", retry=True)

    assert again.owners >= 2
    assert [world.values(node) for node in owners] == [[None]] * 3


def test_it_brings_nothing_back_while_its_coordinator_is_down() -> None:
    world, owners = superseded()
    world.kill(owners[0])

    world.put(owners[1], b"v", op=b"once", retry=True)

    assert world.values(owners[1]) == world.values(owners[2]) == [None]


def test_a_first_try_that_lay_unread_in_a_node_that_did_not_run_brings_nothing_back() -> None:
    """It says of itself that it is no retry: the node knows better."""
    world, owners = superseded()
    world.nodes[owners[1]].late_ms = TIMEOUT_MS // 2

    world.put(owners[1], b"v", op=b"once")

    assert [world.values(node) for node in owners] == [[None]] * 3


def test_a_put_that_lay_unread_until_its_time_was_over_is_not_done() -> None:
    world = World(3)
    first = world.order()[0]
    world.nodes[first].late_ms = TIMEOUT_MS

    failed = world.refused_put(first, b"v")

    assert (failed.code, failed.outcome) == ("deadline_exceeded", "unknown")
    assert not any(world.disk.values())


def test_a_pause_is_taken_once_from_a_put_that_waits_for_the_disk_after_it() -> None:
    world = World(3)
    first = world.order()[0]
    world.nodes[first].late_ms = TIMEOUT_MS - 1

    assert world.put(first, b"v").retried
    assert world.values(first) == [b"v"]


def test_a_put_that_is_made_within_the_process_after_a_pause_lay_nowhere() -> None:
    """It is a first try with all of its time: so what refuses it has done nothing."""
    world = World(3)
    first = world.order()[0]
    node = world.nodes[first]
    node.late_ms = 2 * TIMEOUT_MS
    node.clients.fronts.update(range(1, 10))

    assert not world.put(first, b"v").retried
    failed = world.refused_put(first, b"w", w=4)

    assert (failed.code, failed.outcome) == ("bad_request", "none")


def test_who_asks_within_the_process_without_a_time_has_the_default_at_the_door() -> None:
    world = World(3)
    first = world.order()[0]
    clients = world.nodes[first].clients
    clients.fronts.add(1)
    world.answers[1] = []

    clients.let_in(1, Put(1, KEY, b"v", b"", b"soon", 0), 450)
    world.run()

    assert not world.reply(1, PutReply).retried


@pytest.mark.parametrize("within", [False, True])
def test_the_time_at_the_door_is_taken_from_a_puts_own(within: bool) -> None:
    world = World(3)
    first = world.order()[0]
    clients = world.nodes[first].clients
    if within:
        clients.fronts.update((1, 2))
    put = Put(1, KEY, b"v", b"", b"soon", TIMEOUT_MS)

    world.answers.update({1: [], 2: []})

    clients.let_in(1, put, TIMEOUT_MS - 1)
    world.run()
    clients.let_in(2, msgspec.structs.replace(put, rid=2, op=b"late"), TIMEOUT_MS)
    world.run()

    assert world.reply(1, PutReply).retried is not within
    assert world.failure(2).code == "deadline_exceeded"
    assert world.values(first) == [b"v"]


def test_of_a_put_that_waited_at_the_door_in_a_pause_the_time_is_taken_once() -> None:
    world = World(3)
    first = world.order()[0]
    node = world.nodes[first]
    node.late_ms = TIMEOUT_MS // 2
    put = Put(1, KEY, b"v", b"", b"soon", TIMEOUT_MS)
    world.answers.update({1: [], 2: []})

    node.clients.let_in(1, put, TIMEOUT_MS - 1)
    world.run()
    node.clients.let_in(2, msgspec.structs.replace(put, rid=2, op=b"late"), TIMEOUT_MS)
    world.run()

    assert world.reply(1, PutReply).retried
    assert (world.failure(2).code, world.failure(2).outcome) == ("deadline_exceeded", "unknown")


@pytest.mark.parametrize("timeout_ms", [0, -1, TIMEOUT_MS])
def test_a_put_without_a_time_at_the_door_has_that_of_the_node(timeout_ms: int) -> None:
    world = World(3, request_timeout_ms=TIMEOUT_MS)
    first = world.order()[0]
    world.answers.update({1: [], 2: []})

    for place, waited_ms in ((1, TIMEOUT_MS - 1), (2, TIMEOUT_MS)):
        put = Put(place, KEY, b"v", b"", b"%d" % place, timeout_ms)
        world.nodes[first].clients.let_in(place, put, waited_ms)
    world.run()

    assert world.reply(1, PutReply).owners
    assert world.failure(2).code == "deadline_exceeded"


def test_a_request_id_that_another_put_had_is_refused_and_nothing_is_acknowledged() -> None:
    world = World(3)
    first = world.order()[0]
    world.put(first, b"mine", op=b"once")

    failed = world.refused_put(first, b"yours", op=b"once")
    deleted = world.refused_put(first, None, op=b"once")

    assert (failed.code, failed.outcome) == ("bad_request", "none")
    assert deleted.code == "bad_request"
    assert world.values(first) == [b"mine"]


def test_a_stand_in_does_not_remember_puts_whose_hints_go_home() -> None:
    """A table that knows them would vouch for what this node has no more."""
    world = World(4)
    a, _, c, stand_in = world.order()
    world.kill(c)
    world.put(a, b"v", op=b"once", w=3)
    assert world.hint(stand_in) == ([c], [b"v"])
    assert b"once" in world.nodes[a].local.recent_puts
    assert b"once" not in world.nodes[stand_in].local.recent_puts

    world.start(c)
    world.until(lambda: not world.hint(stand_in)[0])
    world.nodes[stand_in].receive(a, Fetch(rid=7, key=KEY, left_ms=1000, op=b"once"))
    world.run()
    replies = world.messages(FetchReply, to=a)
    assert [reply.op_known for reply in replies if reply.rid == 7] == [False]


def test_a_batch_that_was_not_written_empties_the_table() -> None:
    world = World(3)
    first = world.order()[0]
    world.put(first, b"v", op=b"once")
    node = world.nodes[first]
    assert b"once" in node.local.recent_puts

    node.write_failed({}, [])

    assert b"once" not in node.local.recent_puts


def test_a_retry_that_waits_for_the_disk_keeps_what_the_others_said_of_it() -> None:
    world = World(3)
    put = Put(1, KEY, b"v", b"", b"once", TIMEOUT_MS, retry=True)
    looked = LookedAround(1, put, known={b"a" * 16: 1})

    aged = world.nodes[world.order()[0]].writes.aged(1, looked, 10)

    assert isinstance(aged, LookedAround)
    assert aged.known == looked.known
    assert aged.put.timeout_ms == TIMEOUT_MS - 10


def test_the_table_keeps_a_whole_generation_and_no_more_than_two() -> None:
    recent = RecentPuts()

    for number in range(3 * GENERATION):
        recent.add(b"%d" % number)
    kept = sum(b"%d" % number in recent for number in range(3 * GENERATION))

    assert all(b"%d" % number in recent for number in range(2 * GENERATION, 3 * GENERATION))
    assert GENERATION <= kept <= 2 * GENERATION
