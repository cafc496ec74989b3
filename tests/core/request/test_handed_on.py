"""What another node hands on that nobody can carry out: refused, it stops and spoils nothing."""

from __future__ import annotations

import msgspec
import pytest
from tests.core.world import KEY, World

from everwrite.core.messages.requests import Failure, Put, PutReply, Touch
from everwrite.core.types.operations import Assign, encode

NO_OPERATIONS = {
    "nothing": b"",
    "an empty list": encode([]),
    "no MessagePack": b"\xc1",
    "a name that is a list": msgspec.msgpack.encode([["assign", [["a"]], b"v", 0]]),
    "a name that is a number": msgspec.msgpack.encode([["assign", [7], b"v", 0]]),
    "an element that is a map": msgspec.msgpack.encode([["include", [], [{}]]]),
    "too many names": encode([Assign(["a"] * 9, b"v")]),
}


def handed_on(world: World, key: bytes, operations: bytes) -> list[Failure]:
    """Let a node hand on a change to an owner; return how that fails."""
    owner, other = world.order()[0], world.order()[-1]
    world.nodes[owner].receive(
        other, Put(7, key, operations, b"", b"op", 1000, forwarded=True, change=True)
    )
    world.run()
    return world.messages(Failure, to=other)


@pytest.mark.parametrize("operations", NO_OPERATIONS.values(), ids=NO_OPERATIONS)
def test_a_change_that_cannot_be_is_refused_and_leaves_the_key_as_it_was(operations: bytes) -> None:
    world = World(4)
    before = dict(world.disk[world.order()[0]])

    (failure,) = handed_on(world, KEY, operations)

    assert (failure.rid, failure.outcome) == (7, "none")
    assert dict(world.disk[world.order()[0]]) == before
    client = world.send_put(world.order()[0], encode([Assign(["a"], b"v")]), change=True)
    world.run()
    assert world.reply(client, PutReply).results == [1]


def test_a_key_that_is_none_is_refused() -> None:
    world = World(4)

    (failure,) = handed_on(world, b"short", encode([Assign(["a"], b"v")]))

    assert failure.outcome == "none"


def test_a_touch_of_a_key_that_is_none_is_refused() -> None:
    world = World(4)
    owner, other = world.order()[0], world.order()[-1]

    world.nodes[owner].receive(other, Touch(7, b"short", b"op", 60_000, 1000, forwarded=True))
    world.run()

    (failure,) = world.messages(Failure, to=other)
    assert failure.outcome == "none"
