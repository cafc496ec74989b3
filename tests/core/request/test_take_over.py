"""A put that is taken over by a node whose hint of the key is damaged: it stands in even so."""

from __future__ import annotations

import pytest
from tests.core.world import KEY, World

from everwrite.core.data import versions
from everwrite.core.data.versions import Dot
from everwrite.core.hints.kept import split_hint
from everwrite.core.messages.requests import Failure, Fetch, FetchReply, PutReply
from everwrite.core.records import HINT


def taken_over_beside(damage: str) -> tuple[World, bytes, int]:
    """Return a world in which a stand-in with a damaged hint takes a put over from a node that
    hangs; the stand-in; and the put's client.
    """
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"old")
    getattr(world, damage).add((d, HINT + KEY))
    world.nodes[d].local.records.forget([HINT + KEY])
    world.silent.add(a)
    client = world.send_put(d, b"new", timeout_ms=10_000)
    world.advance(9_000)
    return world, d, client


def test_a_stand_in_whose_hint_is_damaged_for_good_takes_a_put_over() -> None:
    world, stand_in, client = taken_over_beside("rotten")

    reply = world.reply(client, PutReply)

    assert (reply.owners, reply.fallbacks) == (1, 1)
    assert reply.retried
    assert b"new" in world.hint(stand_in)[1]


def test_a_stand_in_whose_hint_may_be_whole_refuses_a_put_and_leaves_it() -> None:
    world, stand_in, client = taken_over_beside("broken")

    assert world.reply(client, Failure).code == "storage"
    assert world.hint(stand_in)[1] == [b"old"]


def handed_on(*, back: bool, timeout_ms: int = 10_000) -> tuple[World, bytes, int]:
    """Return a world in which a put was handed on to the stand-in of an owner that is down, or is
    back since; it has made it, and nothing that it says arrives but what it has. The stand-in,
    and the put's client.
    """
    world = World(6)
    owner, _, _, stand_in, _, taker = world.order()
    world.kill(owner)
    world.lose = lambda source, target, message: (
        source == stand_in and not isinstance(message, FetchReply)
    )
    client = world.send_put(taker, b"v", w=2, timeout_ms=timeout_ms)
    world.run()
    assert world.hint(stand_in)[1] == [b"v"]
    if back:
        world.start(owner)
    return world, stand_in, client


def dots(world: World, node: bytes) -> set[Dot]:
    """Return the dots of what stands on a node's disk, as an owner's copy or as a hint."""
    hint = world.disk[node].get(HINT + KEY)
    kept = versions.decode(split_hint(hint)[2]).siblings if hint is not None else ()
    found = (*world.record(node).siblings, *kept)
    return {(version.actor, version.counter) for version in found}


@pytest.mark.parametrize("back", [False, True])
def test_whoever_takes_a_put_over_hears_that_it_was_made_where_it_was_handed_to(back: bool) -> None:
    world, stand_in, client = handed_on(back=back)

    world.until(lambda: bool(world.answers[client]), 2_000)

    assert world.reply(client, PutReply).retried
    assert world.messages(Fetch, to=stand_in)
    assert len({dot for node in world.ids for dot in dots(world, node)}) == 1


@pytest.mark.parametrize("timeout_ms", [10_000, 350])
def test_whom_a_put_was_handed_to_is_waited_for_half_its_time_at_most(timeout_ms: int) -> None:
    """It was silent before: a put that a majority can say all about is made in time."""
    world, stand_in, client = handed_on(back=True, timeout_ms=timeout_ms)
    world.silent.add(stand_in)

    world.until(lambda: bool(world.answers[client]), 2_000)

    assert world.reply(client, PutReply).retried
