"""Retries: a put that is tried again, here or elsewhere, is one write (the request id says so)."""

from __future__ import annotations

import pytest
from tests.core.world import KEY, STEP_MS, TIMEOUT_MS, World

from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import Get, GetReply, Put, PutReply, StoreReply


def dots(world: World, node: bytes) -> list[tuple[bytes, int]]:
    return [(version.actor, version.counter) for version in world.record(node).siblings]


def test_the_same_put_again_at_the_same_coordinator_mints_nothing_new() -> None:
    world = World(3)
    a, b, c = world.order()
    first = world.put(a, b"v", op=b"once", w=3)
    minted = dots(world, a)

    again = world.put(a, b"v", op=b"once", w=3, retry=True)

    assert again.context == first.context
    assert [dots(world, node) for node in (a, b, c)] == [minted] * 3
    assert world.nodes[a].local.counters.retries_recognised == 1


def test_it_is_recognised_though_the_client_does_not_say_that_it_is_a_retry() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", op=b"once")

    again = world.put(a, b"v", op=b"once")

    assert (again.siblings, len(dots(world, a))) == (1, 1)


def test_the_same_put_again_at_another_coordinator_mints_nothing_new() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", op=b"once")
    minted = dots(world, a)

    again = world.put(c, b"v", op=b"once", w=3, retry=True)

    assert (again.owners, again.siblings) == (3, 1)
    assert [dots(world, node) for node in (a, b, c)] == [minted] * 3


def test_a_retry_finds_the_copy_that_reached_one_replica_only() -> None:
    """The first coordinator wrote its own copy and one other, and died before it answered."""
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target == c or isinstance(message, StoreReply)
    world.send_put(a, b"v", op=b"once", w=2)
    world.run()
    world.lose = lambda source, target, message: False
    world.kill(a)

    again = world.put(c, b"v", op=b"once", retry=True)

    assert (again.owners, again.siblings) == (2, 1)
    assert dots(world, c) == dots(world, b)
    assert dots(world, c)[0][0][:8] == a, "it is still the first coordinator's write"


def test_a_retry_brings_the_write_to_w_nodes() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: True
    client = world.send_put(a, b"v", op=b"once", w=2)
    world.advance(TIMEOUT_MS + 100)
    assert world.failure(client).outcome == "unknown"
    world.lose = lambda source, target, message: False

    again = world.put(a, b"v", op=b"once", w=3, retry=True)

    assert again.owners == 3
    assert dots(world, b) == dots(world, c) == dots(world, a)


def test_a_retry_that_nobody_who_answers_knows_of_is_minted_and_read_as_one_value() -> None:
    """The one copy of the first try is on a node that is down: the second try cannot know."""
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: True
    world.send_put(a, b"v", op=b"once", w=1)
    world.run()
    world.lose = lambda source, target, message: False
    world.kill(a)
    world.put(b, b"v", op=b"once", retry=True)

    world.start(a)
    found = world.get(c, r=3)

    assert len(dots(world, c)) == 2
    assert found.values == [(0, b"v")]


def test_a_retry_waits_no_longer_than_spare_after_ms_for_those_who_may_know() -> None:
    world = World(3, spare_after_ms=100)
    a, b, c = world.order()
    world.silent |= {a}

    client = world.send_put(b, b"v", op=b"once", w=2, retry=True)
    world.advance(world.config.spare_after_ms + 2 * STEP_MS)

    assert world.reply(client, PutReply).owners == 2
    assert world.values(c) == [b"v"]


def test_two_tries_at_once_at_two_coordinators_are_read_as_one_value() -> None:
    world = World(3)
    a, b, c = world.order()
    first = world.send_put(a, b"v", op=b"once")
    second = world.send_put(b, b"v", op=b"once", retry=True)
    world.run()

    assert world.reply(first, PutReply)
    assert world.reply(second, PutReply)
    assert world.get(c, r=3).values == [(0, b"v")]


def test_another_put_with_the_same_value_is_another_write() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", op=b"one")

    assert world.put(a, b"v", op=b"two").siblings == 2


def test_a_retried_delete_leaves_one_tombstone() -> None:
    world = World(3)
    a, b, c = world.order()
    done = world.put(a, b"v")
    world.put(a, None, op=b"away", context=done.context)

    world.put(c, None, op=b"away", context=done.context, retry=True)

    assert [world.values(node) for node in (a, b, c)] == [[None]] * 3


# -- forwarded -------------------------------------------------------------------------------------


def outside(world: World) -> bytes:
    """Return a node that is no owner of the key."""
    return world.order()[3]


def test_a_node_that_is_no_replica_hands_a_put_on_once_and_says_that_the_view_is_stale() -> None:
    world = World(5)
    a, *_ = world.order()

    done = world.put(outside(world), b"v", w=3)

    assert done.stale_view
    assert (done.owners, done.fallbacks) == (3, 0)
    assert [m.forwarded for m in world.messages(Put, to=a)] == [True]
    assert dots(world, a)[0][0][:8] == a, "the replica minted, not the node in between"


def test_a_forwarded_put_is_not_forwarded_again() -> None:
    """Nodes may differ for a moment in who is up; a put must not travel in circles."""
    world = World(5)
    *_, d, _e = world.order()

    world.nodes[d].receive(world.ids[0], Put(9, KEY, b"v", b"", b"op", TIMEOUT_MS, forwarded=True))
    world.run()

    assert not world.messages(Put)
    (reply,) = [m for m in world.messages(PutReply) if m.rid == 9]
    assert reply.fallbacks >= 0


def test_a_client_cannot_pass_its_put_off_as_forwarded() -> None:
    world = World(5)

    done = world.put(outside(world), b"v", forwarded=True)

    assert done.stale_view
    assert world.messages(Put)


def test_a_put_whose_replica_dies_in_between_is_coordinated_here_and_minted_once() -> None:
    world = World(5)
    a, b, c, d, _e = world.order()
    world.lose = lambda source, target, message: isinstance(message, PutReply)
    client = world.send_put(d, b"v", op=b"once")
    world.run()
    assert world.values(b) == [b"v"]

    world.lose = lambda source, target, message: False
    world.kill(a)
    world.run()

    assert world.reply(client, PutReply)
    assert dots(world, b) == dots(world, c)
    assert len(dots(world, b)) == 1


def test_a_put_whose_replica_is_silent_is_coordinated_here_in_time() -> None:
    world = World(5)
    a, _b, _c, d, _e = world.order()
    world.silent |= {a}

    client = world.send_put(d, b"v")
    world.advance(TIMEOUT_MS)

    done = world.reply(client, PutReply)
    assert done.owners + done.fallbacks >= 2


@pytest.mark.parametrize("short_ms", [1, 50, 250])
def test_a_short_deadline_that_passes_in_the_replicas_hands_is_answered_all_the_same(
    short_ms: int,
) -> None:
    world = World(5)
    a, _b, _c, d, _e = world.order()
    world.silent |= {a}

    writer = world.send_put(d, b"v", timeout_ms=short_ms)
    reader = world.send_get(d, timeout_ms=short_ms)
    world.advance(400)

    failed = world.failure(writer)
    assert (failed.code, failed.outcome) == ("deadline_exceeded", "unknown")
    assert failed.hint
    failed = world.failure(reader)
    assert (failed.code, failed.outcome) == ("deadline_exceeded", "none")


def test_a_get_at_a_node_that_is_no_replica_is_handed_on_too() -> None:
    world = World(5)
    a, *_ = world.order()
    world.put(a, b"v")

    found = world.get(outside(world))

    assert found.values == [(0, b"v")]
    assert found.stale_view
    assert world.messages(Get, to=a)


def test_a_get_whose_replica_is_silent_is_coordinated_here_in_time() -> None:
    world = World(5)
    a, b, _c, d, _e = world.order()
    world.put(b, b"v", w=3)
    world.silent |= {a}

    client = world.send_get(d)
    world.advance(TIMEOUT_MS)

    assert world.reply(client, GetReply).values == [(0, b"v")]


def test_a_failure_of_the_replica_comes_back_as_the_client_would_have_got_it() -> None:
    world = World(5)
    done = world.put(outside(world), b"v")

    failed = world.refused_put(outside(world), b"w", context=done.context[:-1] + b"?")

    assert (failed.code, failed.outcome) == ("bad_context", "none")


def test_a_replica_that_cannot_read_its_copy_hands_the_put_on() -> None:
    world = World(3)
    a, b, c = world.order()
    done = world.put(a, b"v1", w=3)
    world.broken.add((a, b"d" + KEY))
    world.nodes[a].local.records.forget([b"d" + KEY])

    again = world.put(a, b"v2", context=done.context, w=2)

    assert again.owners == 2
    assert world.values(b) == world.values(c) == [b"v2"]


def test_the_only_replica_left_says_that_it_cannot_read_its_copy() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v1", w=3)
    world.broken.add((a, b"d" + KEY))
    world.nodes[a].local.records.forget([b"d" + KEY])
    world.kill(b, c)

    failed = world.refused_put(a, b"v2", w=1)

    assert (failed.code, failed.outcome) == ("storage", "none")
    assert "cannot read" in failed.message
    assert failed.hint


def test_a_key_of_another_partition_has_another_coordinator() -> None:
    """The world's key is not special."""
    world = World(5)
    for number in range(32):
        key = data_key(b"carts", b"%d" % number)
        done = world.put(world.ids[0], b"v", key=key)
        assert done.stale_view == (world.ids[0] not in world.order(key)[:3])


@pytest.mark.parametrize("retry", [False, True])
def test_a_put_whose_time_is_over_while_it_looks_around_is_not_made(retry: bool) -> None:
    world = World(3)
    a, _, c = world.order()
    world.lose = lambda source, target, message: {a, c} == {source, target}
    began = world.now
    value = b"v" if retry else None

    client = world.send_put(a, value, timeout_ms=60, retry=retry, over=not retry)
    while not world.answers[client]:
        world.advance(10)

    assert world.now - began <= 60 + STEP_MS
    failed = world.failure(client)
    assert (failed.code, failed.outcome) == ("deadline_exceeded", "unknown" if retry else "none")
    assert not any(world.disk.values())


def test_what_looking_around_takes_is_taken_from_the_time_of_the_put() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: {source, target} != {b, c}
    began = world.now

    client = world.send_put(a, b"v", op=b"once", retry=True, timeout_ms=200)
    while not world.answers[client]:
        world.advance(10)

    assert world.now - began <= 200 + STEP_MS
    assert world.failure(client).code == "quorum_not_met"
    assert world.values(a) == [b"v"]
