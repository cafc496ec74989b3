"""Limits: what is too large or too much is refused before anything is done, and says so."""

from __future__ import annotations

import pytest
from tests.core.world import KEY, World

from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.data.keys import (
    BUCKET_BYTES_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    data_key,
)
from everwrite.core.messages.requests import BUSY, FOUND, Failure, Fetch, FetchReply, Put
from everwrite.core.types.operations import Assign, encode


def test_the_largest_key_bucket_and_value_are_taken() -> None:
    world = World(3)
    key = data_key(b"b" * BUCKET_BYTES_MAX, b"k" * KEY_BYTES_MAX)

    world.put(world.ids[0], b"v" * VALUE_BYTES_MAX, key=key)

    (kind, value), *rest = world.get(world.ids[1], key=key).values
    assert (kind, len(value), rest) == (0, VALUE_BYTES_MAX, [])


def test_a_value_over_the_limit_is_refused_and_changes_nothing() -> None:
    world = World(3)

    failed = world.refused_put(world.ids[0], b"v" * (VALUE_BYTES_MAX + 1))

    assert (failed.code, failed.outcome) == ("too_large", "none")
    assert failed.message == "At carts/alice, the value has 1048577 bytes; the most is 1048576."
    assert failed.hint
    assert not any(world.disk.values())


def test_a_change_has_as_many_bytes_as_a_record_and_its_values_those_of_values() -> None:
    world, key = World(3), data_key(b"b", b"k")
    large, over = b"v" * VALUE_BYTES_MAX, b"v" * (VALUE_BYTES_MAX + 1)

    world.put(world.ids[0], encode([Assign(["a"], large)]), key=key, change=True)
    two = encode([Assign(["b"], large), Assign(["c"], large)])
    long = world.refused_put(world.ids[0], two, key=key, change=True)
    one = world.refused_put(world.ids[0], encode([Assign(["b"], over)]), key=key, change=True)

    assert (long.code, long.outcome) == ("too_large", "none")
    assert (
        long.message == f"At b/k, the change has {len(two)} bytes; the most is {RECORD_BYTES_MAX}."
    )
    assert one.message == "At b/k, the value has 1048577 bytes; the most is 1048576."


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"short",
        bytes(9),
        KEY[:-1],
        KEY + b"x",
        b"\0" * 8 + KEY[8:],
        data_key(b"b" * (BUCKET_BYTES_MAX + 1), b"k"),
        data_key(b"", b"k"),
        data_key(b"b", b""),
        data_key(b"b", b"k" * (KEY_BYTES_MAX + 1)),
        data_key(b"new\nline", b"k"),
        data_key(b"esc\x1b[2J", b"k"),
        data_key(b"nul\0", b"k"),
        data_key("next\x85line".encode(), b"k"),
        data_key(b"not\xffutf-8", b"k"),
    ],
    ids=lambda key: repr(key[:24]),
)
def test_a_key_that_no_client_should_send_is_refused_and_changes_nothing(key: bytes) -> None:
    """Clients check names; nodes do not rely on it."""
    world = World(3)
    node = world.ids[0]

    for failed in (world.refused_put(node, b"v", key=key), world.refused_get(node, key=key)):
        assert failed.code in ("protocol", "bad_request", "too_large")
        assert failed.outcome == "none"
    world.answers[7] = []
    world.nodes[node].receive(7, Fetch(1, key, 1000))
    world.run()
    assert world.failure(7).outcome == "none"
    assert not any(world.disk.values())


@pytest.mark.parametrize("kind", [-1, 3, 200])
def test_a_kind_that_no_reader_knows_is_refused_and_changes_nothing(kind: int) -> None:
    world = World(3)

    failed = world.refused_put(world.ids[0], b"v", kind=kind)

    assert (failed.code, failed.outcome) == ("bad_request", "none")
    assert failed.hint.startswith("Use 0 (bytes)")
    assert not any(world.disk.values())


def test_a_put_that_would_leave_too_many_siblings_is_refused_and_says_what_to_do() -> None:
    world = World(3, siblings_max=3)
    a, b, _c = world.order()
    for number in range(3):
        world.put(a, b"%d" % number)

    failed = world.refused_put(b, b"one too many")

    assert (failed.code, failed.outcome) == ("too_large", "none")
    assert failed.message == "At carts/alice, the key has 3 siblings; the most is 3."
    assert failed.hint.startswith("Nothing was written. Read the key, merge")
    assert world.values(a) == world.values(b) == [b"0", b"1", b"2"]


def test_a_put_that_merges_is_taken_at_the_limit_of_siblings() -> None:
    world = World(3, siblings_max=3)
    a, *_ = world.order()
    for number in range(3):
        world.put(a, b"%d" % number)

    done = world.put(a, b"merged", context=world.get(a).context)

    assert done.siblings == 1


def test_what_two_sides_of_a_partition_wrote_is_merged_over_the_limit_and_never_dropped() -> None:
    world = World(3, siblings_max=2)
    a, b, c = world.order()
    world.lose = lambda source, target, message: True
    for node in (a, b, c):
        for number in range(2):
            world.put(node, b"%d%d" % (node[0], number), w=1)
    world.lose = lambda source, target, message: False

    found = world.get(a, r=3)

    assert len(found.values) == 6
    assert [len(world.values(node)) for node in (a, b, c)] == [6, 6, 6]


def test_a_put_that_would_make_the_record_too_large_is_refused_and_says_what_to_do() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"1" * (VALUE_BYTES_MAX - 1000))
    world.put(a, b"2" * (VALUE_BYTES_MAX - 1000))
    before = world.disk[a][b"d" + KEY]

    failed = world.refused_put(a, b"3" * VALUE_BYTES_MAX)

    assert (failed.code, failed.outcome) == ("too_large", "none")
    assert failed.message.endswith(f"the most is {RECORD_BYTES_MAX}.")
    assert failed.hint.startswith("Nothing was written. Read the key, merge")
    assert world.disk[a][b"d" + KEY] == before


@pytest.mark.scenario(74)
def test_requests_over_the_cap_are_refused_at_once() -> None:
    world = World(3, in_flight_max=2)
    a, b, c = world.order()
    world.silent |= {b, c}
    for _ in range(2):
        world.send_put(a, b"v")
    world.run()

    for failed in (world.refused_put(a, b"v"), world.refused_get(a)):
        assert (failed.code, failed.outcome) == ("overloaded", "none")
        assert failed.retry_after_ms > 0
        assert failed.hint.startswith("Nothing was done.")


def test_hints_on_their_way_take_no_room_from_clients() -> None:
    world = World(5, in_flight_max=1, down_after_ms=60_000, hint_retry_ms=10_000)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    assert world.hint(d)[0] == [c]
    world.lose = lambda source, target, message: target == c
    world.start(c)
    world.run()
    assert len(world.nodes[d].local.requests) == 1

    assert world.get(d).values
    assert world.put(d, b"w", context=world.get(d).context).owners == 2


def test_a_node_that_does_not_know_its_cluster_yet_asks_clients_to_wait() -> None:
    world = World(3)
    a, *_ = world.order()
    world.nodes[a].ready = False

    for failed in (world.refused_put(a, b"v"), world.refused_get(a)):
        assert (failed.code, failed.outcome) == ("unavailable", "none")
        assert "starting" in failed.message
        assert failed.hint.startswith("Nothing was done.")
    assert not any(world.disk.values())


@pytest.mark.parametrize(("asked", "given"), [(0, 5000), (-5, 5000), (1, 1), (10**12, 60_000)])
def test_a_timeout_that_cannot_be_is_replaced_by_the_default_or_the_most(
    asked: int, given: int
) -> None:
    world = World(3)
    a, b, c = world.order()
    world.silent |= {b, c}

    client = world.send_put(a, b"v", timeout_ms=asked)
    world.run()
    world.advance(given + 50)

    assert world.failure(client).outcome == "unknown"


def test_a_tick_answers_with_a_bounded_number_of_bytes() -> None:
    """One frame can ask for thousands of the largest values."""
    world = World(3, answer_bytes_max=3000)
    first = world.order()[0]
    world.put(first, b"v" * 1000)
    node = world.nodes[first]
    world.answers[7] = []

    for rid in range(10):
        node.receive(7, Fetch(rid, KEY, 1000))
    statuses = [reply.status for reply in node.out.sends[7] if isinstance(reply, FetchReply)]

    assert statuses == [FOUND] * 2 + [BUSY] * 8

    world.run()
    assert world.get(first).values == [(0, b"v" * 1000)], "the next tick answers again"


@pytest.mark.scenario(19)
def test_puts_in_flight_hold_a_bounded_number_of_bytes() -> None:
    world = World(3, held_bytes_max=3000)
    first = world.order()[0]
    world.put(first, b"v")
    node = world.nodes[first]
    world.answers[7] = []

    for rid in range(10):
        op = b"op%d" % rid
        node.receive(7, Put(rid, data_key(b"b", op), b"v" * 1000, b"", op, 1000))
    world.run()
    failures = [answer for answer in world.answers[7] if isinstance(answer, Failure)]

    assert failures and {failure.code for failure in failures} == {"overloaded"}
    assert len(failures) < 10
    assert node.local.held_bytes == 0, "what is over holds nothing"


@pytest.mark.parametrize("retry", [False, True], ids=["handed on", "looking around"])
def test_puts_that_wait_for_another_node_hold_a_bounded_number_of_bytes(retry: bool) -> None:
    world = World(5, held_bytes_max=3000)
    order = world.order()
    name = order[0] if retry else order[-1]
    node = world.nodes[name]
    world.answers[7] = []
    world.put(name, b"v")

    for rid in range(10):
        put = Put(rid, KEY, b"v" * 1000, b"", b"op%d" % rid, 1000, retry=retry)
        node.receive(7, put)
    held = node.local.held_bytes
    failures = [m for m in node.out.sends[7] if isinstance(m, Failure)]
    world.run()

    assert held == 3 * (len(KEY) + 1000)
    assert {failure.code for failure in failures} == {"overloaded"} and len(failures) == 7
    assert all(failure.retry_after_ms for failure in failures)
    assert node.local.held_bytes == 0, "what is over holds nothing"
