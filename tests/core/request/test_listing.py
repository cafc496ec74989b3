"""Listing keys: every acknowledged key is told, in the order of the ring, step by step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import World

from everwrite.core.data.keys import data_key
from everwrite.core.expiry.clock import Clock
from everwrite.core.messages.listing import List, Listed, Named, Names
from everwrite.core.messages.requests import BUSY, Failure
from everwrite.core.request import listing
from everwrite.core.request.listing import STEPS_MAX


def step(world: World, node: bytes, after: bytes = b"", **fields: object) -> Listed:
    """Take one step of a listing, and return the answer that came without any time passing."""
    return world.reply(ask(world, node, after, **fields), Listed)  # type: ignore[no-any-return]


def ask(world: World, node: bytes, after: bytes = b"", **fields: object) -> int:
    client = world._client()
    asked = {"bucket": b"carts", "prefix": b"", "timeout_ms": 1000, **fields}
    world.nodes[node].receive(client, List(rid=client, after=after, **asked))  # type: ignore[arg-type]
    world.run()
    return client


def walk(world: World, node: bytes, **fields: object) -> list[bytes]:
    """Return all keys that a listing tells, from the ring's beginning to its end."""
    keys: list[bytes] = []
    after = b""
    while True:
        answer = step(world, node, after, **fields)
        keys += answer.keys
        after = answer.next
        if not after:
            return keys


def put(world: World, *names: bytes, bucket: bytes = b"carts", node: int = 0) -> None:
    for name in names:
        world.put(world.ids[node], b"v", key=data_key(bucket, name))


def in_ring_order(names: list[bytes], bucket: bytes = b"carts") -> list[bytes]:
    return sorted(names, key=lambda name: data_key(bucket, name))


@given(st.sets(st.binary(min_size=1, max_size=6), max_size=40), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_all_keys_are_told_once_in_ring_order_whatever_a_step_reads(
    names: set[bytes], keys: int
) -> None:
    world = World(3)
    put(world, *sorted(names))
    before, listing.STEP_KEYS = listing.STEP_KEYS, keys

    try:
        told = walk(world, world.ids[1])
    finally:
        listing.STEP_KEYS = before

    assert told == in_ring_order(sorted(names))


def test_only_keys_of_the_bucket_with_the_prefix_are_told() -> None:
    world = World(3)
    put(world, b"a1", b"a2", b"b1")
    put(world, b"a3", bucket=b"cart")
    put(world, b"a4", bucket=b"cartsa")

    assert sorted(walk(world, world.ids[0], prefix=b"a")) == [b"a1", b"a2"]


def test_what_was_deleted_is_not_told() -> None:
    world = World(3)
    put(world, b"here", b"gone")
    found = world.get(world.ids[0], key=data_key(b"carts", b"gone"))
    world.put(world.ids[0], None, key=data_key(b"carts", b"gone"), context=found.context)

    assert walk(world, world.ids[2]) == [b"here"]


def test_a_key_that_one_owner_missed_is_told_all_the_same() -> None:
    world = World(3)
    world.lose = lambda source, target, message: target == world.ids[2]
    put(world, b"k")
    world.lose = lambda source, target, message: False

    for node in world.ids:
        assert walk(world, node) == [b"k"]


def test_a_stand_in_tells_the_hints_that_it_keeps() -> None:
    world = World(5)
    key = data_key(b"carts", b"k")
    first, second, third, *_ = world.order(key)
    world.kill(second, third)
    put_by = [node for node in world.ids if node not in (second, third)]
    world.put(first, b"v", key=key)
    world.kill(first)

    told = walk(world, next(node for node in put_by if node != first))

    assert told == [b"k"], "one stand-in has it, and no owner is left"


def test_one_node_down_hides_nothing() -> None:
    world = World(3)
    put(world, b"a", b"b", b"c")
    world.kill(world.ids[0])

    assert sorted(walk(world, world.ids[1])) == [b"a", b"b", b"c"]


def test_too_few_nodes_are_an_error_and_no_short_answer() -> None:
    world = World(3)
    put(world, b"a")
    world.kill(world.ids[0], world.ids[1])

    refused = world.reply(ask(world, world.ids[2]), Failure)

    assert (refused.code, refused.outcome) == ("quorum_not_met", "none")
    assert (refused.acked, refused.required) == (1, 2)


def test_silence_ends_with_the_deadline() -> None:
    world = World(3)
    world.silent = {world.ids[0], world.ids[1]}
    client = ask(world, world.ids[2], timeout_ms=300)

    assert not world.answers[client]
    world.advance(500)

    assert world.reply(client, Failure).code == "quorum_not_met"
    assert not world.nodes[world.ids[2]].local.requests


def test_a_damaged_copy_hides_no_key() -> None:
    world = World(3)
    put(world, b"k")
    for node in world.ids:
        world.rotten.add((node, b"d" + data_key(b"carts", b"k")))

    assert walk(world, world.ids[0]) == [b"k"]


def test_a_node_that_does_not_know_the_time_hides_no_key() -> None:
    """It was restarted with a clock that is years ahead, and hears nobody who is right."""
    world = World(3)
    a, b, _c = world.ids
    put(world, b"k")
    ends = data_key(b"carts", b"ends")
    world.put(a, b"v", key=ends, ttl_ms=60_000)
    world.nodes[a].local.clock = Clock(world.now, world.now + 1_000 * 60_000, 3)

    assert sorted(walk(world, b)) == [b"ends", b"k"], "two others know the time"
    busy = [each for each in world.messages(Named, to=b) if each.status == BUSY]
    assert [each.keys for each in busy] == [[]], "but for one range it knows as well as any"
    refused = world.reply(ask(world, b, ends[:8], r=3), Failure)
    assert (refused.code, refused.acked) == ("quorum_not_met", 2)
    assert world.nodes[a].listings.reading == world.nodes[a].local.background == 0


@pytest.mark.parametrize(
    "fields", [{"bucket": b""}, {"after": b"short"}, {"after": b"x" * 4096}, {"r": 4}, {"r": -1}]
)
def test_a_question_that_cannot_be_is_refused(fields: dict[str, object]) -> None:
    world = World(3)

    assert world.reply(ask(world, world.ids[0], **fields), Failure).code in (  # type: ignore[arg-type]
        "bad_request",
        "too_large",
    )


def test_a_node_reads_for_so_many_listings_at_a_time() -> None:
    world = World(3)
    node = world.nodes[world.ids[0]]
    world.unread.add(world.ids[0])
    for rid in range(STEPS_MAX + 1):
        node.receive(world.ids[1], Names(rid, b"carts", b"", b"", 1000))
    world.run()

    busy = [each for each in world.messages(Named, to=world.ids[1]) if each.status == BUSY]
    assert len(busy) == 1
    assert node.listings.reading == STEPS_MAX
    world.unread.clear()
    world.advance(2000)
    assert node.listings.reading == 0
    assert node.local.background == 0


def test_several_buckets_are_told_on_one_way_by_their_data_keys() -> None:
    world = World(3)
    put(world, b"a", b"b")
    put(world, b"a", b"c", bucket=b"more")
    put(world, b"a", bucket=b"others")
    wanted = [data_key(b"carts", b"a"), data_key(b"carts", b"b")]
    wanted += [data_key(b"more", b"a"), data_key(b"more", b"c")]

    assert walk(world, world.ids[1], also=[b"more", b"none"]) == sorted(wanted)


@pytest.mark.parametrize("also", [[b""], [b"x"] * (listing.ALSO_MAX + 1)])
def test_buckets_that_cannot_be_or_are_too_many_are_refused(also: list[bytes]) -> None:
    world = World(3)

    assert world.failure(ask(world, world.ids[0], also=also)).outcome == "none"
