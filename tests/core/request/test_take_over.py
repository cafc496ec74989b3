"""A put that is taken over by a node whose hint of the key is damaged: it stands in even so."""

from __future__ import annotations

from tests.core.world import KEY, World

from everwrite.core.messages.requests import Failure, PutReply
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
