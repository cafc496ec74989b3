"""Contexts in puts: what a writer had seen goes, what it had not seen stays, and nobody can claim
to have seen more (Dynamo 4.4).
"""

from __future__ import annotations

import pytest
from tests.core.world import KEY, SECRET, World

from everwrite.core.data import context
from everwrite.core.data.context import sign
from everwrite.core.data.keys import data_key
from everwrite.core.data.versions import Seen
from everwrite.core.messages.requests import GetReply

OTHER_KEY = data_key(b"carts", b"bob")


def values(reply: GetReply) -> list[bytes]:
    return sorted(value for _, value in reply.values)


def test_a_put_with_the_context_of_a_read_supersedes_what_was_read() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.put(a, b"v1")
    world.put(b, b"v2")

    world.put(a, b"merged", context=world.get(b).context)

    assert values(world.get(b)) == [b"merged"]


def test_a_put_without_context_becomes_a_sibling() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v1")

    assert world.put(a, b"v2").siblings == 2
    assert values(world.get(a)) == [b"v1", b"v2"]


def test_a_sibling_that_came_after_the_read_stays() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v1")
    read = world.get(a)
    world.put(b, b"v2")

    world.put(c, b"v3", context=read.context)

    assert values(world.get(a)) == [b"v2", b"v3"]


@pytest.mark.parametrize("through", [0, 1, 2])
def test_the_context_of_a_put_never_covers_a_sibling_that_the_writer_has_not_seen(
    through: int,
) -> None:
    """A writer that goes on with what its put gave back must not erase what others wrote."""
    world = World(3)
    owners = world.order()
    world.put(owners[0], b"theirs")

    mine = world.put(owners[0], b"mine")
    world.put(owners[through], b"mine, again", context=mine.context)

    assert values(world.get(owners[1])) == [b"mine, again", b"theirs"]


def test_a_chain_of_puts_by_their_own_contexts_leaves_one_value() -> None:
    world = World(3)
    owners = world.order()
    token = b""
    for number in range(12):
        token = world.put(owners[number % 3], b"%d" % number, context=token).context

    assert values(world.get(owners[0])) == [b"11"]


def test_two_writers_who_never_read_leave_two_values_however_often_they_write() -> None:
    """riak's sibling explosion: with interleaved stale writers there must be 2, not 100."""
    world = World(3)
    owners = world.order()
    tokens = [b"", b""]
    for number in range(100):
        writer = number % 2
        at = owners[number % 3]
        done = world.put(at, b"%d of %d" % (number, writer), context=tokens[writer])
        tokens[writer] = done.context
        assert done.siblings <= 2

    assert values(world.get(owners[0])) == [b"98 of 0", b"99 of 1"]


def test_a_context_is_understood_by_a_coordinator_that_lacks_what_it_names() -> None:
    """It asks the others first, or what was superseded would stay beside what superseded it."""
    world = World(3)
    a, _b, c = world.order()
    world.lose = lambda source, target, message: target == c
    world.put(a, b"theirs", w=2)
    mine = world.put(a, b"mine", w=2)
    world.lose = lambda source, target, message: False

    world.put(c, b"mine, again", context=mine.context)

    assert values(world.get(c, r=3)) == [b"mine, again", b"theirs"]


# -- what is no context of this key ----------------------------------------------------------------


def refused(world: World, token: bytes) -> None:
    """Check that a context is refused and changes nothing, on any node."""
    a, b, _c = world.order()
    before = {node: dict(disk) for node, disk in world.disk.items()}
    for node in (a, b):
        for value in (b"new", None):
            failed = world.refused_put(node, value, context=token)
            assert (failed.code, failed.outcome) == ("bad_context", "none")
            assert failed.hint.startswith("Read the key again")
    assert world.disk == before


@pytest.mark.scenario(41)
def test_a_forged_context_is_refused_and_changes_nothing() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v")
    clock = world.record(a).clock

    refused(world, sign(b"another secret", KEY, Seen(clock, [])))


@pytest.mark.scenario(41)
def test_the_context_of_another_key_is_refused_and_changes_nothing() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v")
    other = world.put(world.order(OTHER_KEY)[0], b"v", key=OTHER_KEY)

    refused(world, other.context)


@pytest.mark.parametrize("flip", [0, 3, 4, 19, 20, -1])
def test_a_context_with_any_bit_flipped_is_refused_and_changes_nothing(flip: int) -> None:
    world = World(3)
    a, *_ = world.order()
    token = bytearray(world.put(a, b"v").context)
    token[flip] ^= 1

    refused(world, bytes(token))


def test_a_context_cut_short_is_refused_and_changes_nothing() -> None:
    world = World(3)
    a, *_ = world.order()
    token = world.put(a, b"v").context

    for length in range(1, len(token)):
        failed = world.refused_put(a, b"new", context=token[:length])
        assert failed.code == "bad_context"
    refused(world, token[:-1])
    refused(world, token + b"x")


def test_a_context_over_the_limit_is_refused_before_it_is_read() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v")

    refused(world, b"\0" * (context.CONTEXT_BYTES_MAX + 1))


@pytest.mark.scenario(41)
def test_a_signed_context_that_names_what_was_never_written_does_not_break_the_clock() -> None:
    """Only a leaked key could make one: the put fails, and the record stays as it was."""
    world = World(3)
    a, *_ = world.order()
    done = world.put(a, b"v")
    (actor,) = world.record(a).clock
    before = world.disk[a][b"d" + KEY]

    failed = world.refused_put(a, b"new", context=sign(SECRET, KEY, Seen({actor: 99}, [])))

    assert (failed.code, failed.outcome) == ("bad_context", "none")
    assert world.disk[a][b"d" + KEY] == before
    assert done.context


def test_a_forged_session_context_is_refused_for_a_get_too() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v")

    failed = world.refused_get(a, seen=b"garbage")

    assert (failed.code, failed.outcome) == ("bad_context", "none")
