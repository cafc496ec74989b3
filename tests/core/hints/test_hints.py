"""Hints: a copy kept for an owner that is down, and brought home when it is back (Dynamo 4.6)."""

from __future__ import annotations

import pytest
from tests.core.world import KEY, World

from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import (
    ABSENT,
    REFUSED,
    STORED,
    UNREADABLE,
    Fetch,
    FetchReply,
    Store,
    StoreReply,
)
from everwrite.core.records import HINT, OWN


def keys_of(world: World, count: int) -> list[bytes]:
    """Return keys that all have the same owners in the same order as ``KEY``."""
    wanted = world.order()
    candidates = (data_key(b"carts", b"%d" % number) for number in range(100_000))
    found: list[bytes] = []
    for key in candidates:
        if world.order(key) == wanted:
            found.append(key)
            if len(found) == count:
                break
    return found


def stored_for(world: World, owner: bytes) -> list[Store]:
    """Return the copies that were sent to an owner."""
    stores: list[Store] = world.messages(Store, to=owner)
    return stores


# -- home ------------------------------------------------------------------------------------------


def test_a_hint_is_delivered_as_soon_as_its_owner_is_back() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    assert world.hint(d) == ([c], [b"v"])

    world.start(c)

    assert world.values(c) == [b"v"]
    assert world.hint(d) == ([], [])
    assert world.nodes[d].hints.notes == 0
    assert world.nodes[d].local.counters.hints_delivered == 1


def test_a_hint_that_its_owner_cannot_take_does_not_block_the_others() -> None:
    """A damaged copy is mended by all owners only, and one of them is gone for good."""
    world = World(5, hint_batch=1, hint_retry_ms=100)
    first, second = keys_of(world, 2)
    a, b, c, d, _e = world.order()
    world.put(a, b"old", key=first, w=3)
    world.kill(c)
    world.put(a, b"v", key=first, context=world.get(a, key=first).context)
    world.put(a, b"v", key=second)
    world.rotten.add((c, OWN + first))
    world.kill(b)

    world.start(c)
    world.advance(2000)

    assert world.values(c, second) == [b"v"]
    assert list(world.nodes[d].hints.waiting[c]) == [first]


def test_all_owners_hold_the_same_bytes_once_hints_are_delivered() -> None:
    world = World(5)
    owners = world.order()[:3]
    world.kill(*owners)
    d, e = world.order()[3:]
    world.put(d, b"v1", w=1)
    world.put(e, b"v2", w=1)

    world.start(*owners)
    world.advance(1000)

    assert {world.disk[node][OWN + KEY][8:] for node in owners} == {
        world.disk[owners[0]][OWN + KEY][8:]
    }
    assert world.values(owners[0]) == [b"v1", b"v2"]
    assert world.hint(d) == world.hint(e) == ([], [])


def test_a_hint_merges_with_what_its_owner_has_got_by_itself() -> None:
    world = World(5, hint_retry_ms=1000)
    a, b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v1")
    world.lose = lambda source, target, message: d in (source, target)
    world.start(c)
    world.put(b, b"v2", w=3)
    world.lose = lambda source, target, message: False

    world.advance(6000)

    assert world.values(c) == [b"v1", b"v2"]
    assert world.hint(d) == ([], [])


def test_one_copy_is_kept_for_several_owners_and_struck_out_for_each() -> None:
    world = World(4)
    _a, b, c, d = world.order()
    world.kill(b, c)
    world.put(d, b"v", w=1)
    owners = [owner for node in (d, world.order()[0]) for owner in world.hint(node)[0]]
    assert sorted(owners) == sorted([b, c])

    world.start(b)
    left = [owner for node in (d, world.order()[0]) for owner in world.hint(node)[0]]
    assert left == [c]
    world.start(c)
    world.advance(1000)

    assert all(world.hint(node) == ([], []) for node in world.ids)
    assert world.values(b) == world.values(c) == [b"v"]


def test_hints_survive_a_restart_of_their_keeper() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    world.kill(d)
    world.start(d)
    assert world.nodes[d].hints.notes == 1

    world.start(c)

    assert world.values(c) == [b"v"]


# -- only after a durable ack ----------------------------------------------------------------------


def test_a_hint_stays_until_its_owner_says_that_the_copy_is_on_disk() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    world.unsynced |= {c}
    world.start(c)
    assert world.hint(d) == ([c], [b"v"]), "written is not enough"

    world.unsynced.clear()
    world.run()

    assert world.hint(d) == ([], [])


def test_a_hint_stays_when_its_delivery_or_its_ack_is_lost_and_goes_again() -> None:
    for lost in (Store, StoreReply):
        world = World(5, hint_retry_ms=1000)
        a, _b, c, d, _e = world.order()
        world.kill(c)
        world.put(a, b"v")
        world.lose = lambda source, target, message, kind=lost: isinstance(message, kind)
        world.start(c)
        world.advance(500)
        assert world.hint(d) == ([c], [b"v"])

        world.lose = lambda source, target, message: False
        world.advance(4000)

        assert world.hint(d) == ([], [])
        assert world.values(c) == [b"v"]


def test_a_hint_stays_when_its_owner_refuses_the_copy() -> None:
    world = World(5, hint_retry_ms=1000)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    world.full |= {c}
    world.start(c)
    assert world.hint(d) == ([c], [b"v"])

    world.full.clear()
    world.advance(3000)

    assert world.hint(d) == ([], [])
    assert world.values(c) == [b"v"]


def test_a_hint_stays_when_its_owner_goes_down_again() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    world.unsynced |= {c}
    world.start(c)
    world.kill(c)
    world.advance(500)
    assert world.hint(d) == ([c], [b"v"])

    world.unsynced.clear()
    world.start(c)

    assert world.hint(d) == ([], [])


def test_a_newer_copy_that_came_meanwhile_keeps_the_note_and_goes_home_too() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    first = world.put(a, b"v1")
    world.unsynced |= {c}
    world.lose = lambda source, target, message: (source, target) == (c, a)
    world.start(c)
    store = stored_for(world, c)[-1]
    newer = world.put(a, b"v2", context=first.context, w=2, dw=0)
    assert newer.owners >= 2
    world.nodes[d].receive(a, Store(0, KEY, world.disk[a][OWN + KEY][8:], 0, 0, hint_for=c))
    world.run()
    assert world.hint(d) == ([c], [b"v2"])

    world.nodes[d].receive(c, StoreReply(store.rid, STORED, True))
    world.run()
    assert world.hint(d) == ([c], [b"v2"]), "the ack was for the older copy"
    world.lose = lambda source, target, message: False
    world.unsynced.clear()
    world.advance(6000)

    assert world.hint(d) == ([], [])
    assert world.values(c) == [b"v2"]


def test_an_ack_of_another_node_strikes_nothing_out() -> None:
    world = World(5)
    a, b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    world.unsynced |= {c}
    world.start(c)
    store = stored_for(world, c)[-1]

    world.nodes[d].receive(b, StoreReply(store.rid, STORED, True))
    world.run()

    assert world.hint(d) == ([c], [b"v"])


# -- pace ------------------------------------------------------------------------------------------


@pytest.mark.scenario(57)
def test_hints_go_home_in_batches_and_the_owner_sets_the_pace() -> None:
    world = World(5, hint_batch=4)
    a, _b, c, d, _e = world.order()
    keys = keys_of(world, 10)
    world.kill(c)
    for key in keys:
        world.put(a, b"v", key=key)
    assert world.nodes[d].hints.notes == 10
    world.unsynced |= {c}
    world.sent.clear()

    world.start(c)
    assert len(stored_for(world, c)) == 4
    world.unsynced.clear()
    world.run()

    assert len(stored_for(world, c)) == 10
    assert world.nodes[d].hints.notes == 0
    assert [message.key for message in stored_for(world, c)] == keys, "oldest first"


def test_an_owner_that_does_not_answer_is_left_alone_for_a_while() -> None:
    world = World(5, hint_retry_ms=1000, down_after_ms=60_000)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    world.lose = lambda source, target, message: source == d and isinstance(message, Store)
    world.start(c)
    world.sent.clear()

    world.advance(5000)

    assert 2 <= len(stored_for(world, c)) <= 3


# -- the cap ---------------------------------------------------------------------------------------


def test_at_the_cap_a_node_refuses_to_stand_in_and_another_one_does() -> None:
    world = World(5, hints_max=1)
    a, _b, c, d, e = world.order()
    first, second = keys_of(world, 2)
    world.kill(c)
    world.put(a, b"v", key=first, w=3)

    done = world.put(a, b"v", key=second, w=3)

    assert (done.owners, done.fallbacks) == (2, 1)
    assert world.hint(d, second) == ([], [])
    assert world.hint(e, second) == ([c], [b"v"])
    assert world.nodes[d].local.counters.hints_refused == 1


def test_at_the_cap_a_note_that_is_there_already_still_takes_newer_copies() -> None:
    world = World(5, hints_max=1)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    done = world.put(a, b"v1", w=3)

    world.put(a, b"v2", w=3, context=done.context)

    assert world.hint(d) == ([c], [b"v2"])


@pytest.mark.scenario(54)
def test_at_the_cap_of_all_nodes_a_put_that_needs_a_stand_in_fails_and_says_so() -> None:
    world = World(4, hints_max=1)
    a, _b, c, d = world.order()
    first, second = keys_of(world, 2)
    world.kill(c)
    world.put(a, b"v", key=first, w=3)

    failed = world.refused_put(a, b"v", key=second, w=3)

    assert (failed.code, failed.acked, failed.required) == ("quorum_not_met", 2, 3)
    assert failed.outcome == "partial"
    assert world.hint(d, second) == ([], [])


def test_a_full_coordinator_refuses_to_stand_in_itself() -> None:
    world = World(5, hints_max=1)
    *owners, d, e = world.order()
    first, second = keys_of(world, 2)
    world.kill(*owners, e)
    world.lose = lambda source, target, message: True
    world.put(d, b"v", key=first, w=1)
    notes = world.nodes[d].hints.notes

    failed = world.refused_put(d, b"v", key=second, w=1)

    assert (failed.code, failed.outcome) == ("hints_full", "none")
    assert "hints" in failed.message
    assert failed.hint
    assert world.nodes[d].hints.notes == notes
    assert world.hint(d, second) == ([], [])


def test_a_refusal_says_refused() -> None:
    world = World(5, hints_max=1)
    a, _b, c, d, _e = world.order()
    first, second = keys_of(world, 2)
    world.kill(c)
    world.put(a, b"v", key=first, w=3)
    world.sent.clear()

    world.nodes[d].receive(a, Store(77, second, world.disk[a][OWN + first][8:], 0, 0, hint_for=c))
    world.run()

    assert world.messages(StoreReply, to=a) == [StoreReply(77, REFUSED, False)]


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["rotten", "broken"])
def test_a_hint_that_cannot_be_read_holds_up_no_other(damage: str) -> None:
    world = World(5, hint_retry_ms=1000)
    a, _b, c, d, _e = world.order()
    bad, good = keys_of(world, 2)
    world.kill(c)
    world.put(a, b"v", key=bad)
    world.put(a, b"v", key=good)
    getattr(world, damage).add((d, HINT + bad))
    world.nodes[d].local.records.forget([HINT + bad])

    world.start(c)
    world.advance(5000)

    assert world.values(c, good) == [b"v"]
    waiting = world.nodes[d].hints.notes
    assert waiting == (0 if damage == "rotten" else 1), "what may be whole is kept"


def test_a_record_that_is_none_is_refused_as_a_hint() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()

    for record in (b"", b"garbage", b"\x92\x80\x91\x96"):
        world.nodes[d].receive(a, Store(5, KEY, record, 0, 0, hint_for=c))
    world.run()

    assert [reply.status for reply in world.messages(StoreReply, to=a)] == [REFUSED] * 3
    assert world.disk[d] == {}


@pytest.mark.parametrize("damage", ["rotten", "broken"])
def test_a_hint_that_was_unreadable_at_the_start_is_never_taken_for_absent(damage: str) -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    kept = world.disk[d][HINT + KEY]
    world.kill(d)
    world.start(d)
    getattr(world, damage).add((d, HINT + KEY))
    hints = world.nodes[d].hints
    for owner in hints.owners_of[KEY]:
        hints._strike(KEY, owner, "missed")
    hints.restore_unreadable(KEY)
    world.advance(5000)
    world.sent.clear()

    world.nodes[d].receive(a, Fetch(77, KEY, 1000))
    world.run()
    assert [reply.status for reply in world.messages(FetchReply, to=a)] == [UNREADABLE]

    record = world.disk[a][OWN + KEY][8:]
    world.nodes[d].receive(a, Store(78, KEY, record, 0, 0, hint_for=c))
    world.run()
    assert damage == "rotten" or world.disk[d][HINT + KEY] == kept, "it may be whole"


def test_a_damaged_hint_of_an_unknown_owner_goes_when_all_owners_of_its_key_are_there() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v")
    world.kill(d)
    world.rotten.add((d, HINT + KEY))
    world.start(d)
    hints = world.nodes[d].hints
    world.advance(2000)
    assert HINT + KEY in world.disk[d] and hints.may_be_kept(KEY), "one owner is missing"

    world.start(c)
    world.advance(5000)

    assert HINT + KEY not in world.disk[d] and not hints.may_be_kept(KEY)
    assert world.values(c) == [b"v"], "the owners have brought together what they have"
    assert not hints.unfinished


def test_an_owner_that_has_nothing_says_so_beside_a_damaged_hint() -> None:
    world = World(3)
    a, b, c = world.order()
    world.kill(c)
    world.put(a, b"v")
    keeper = next(node for node in (a, b) if world.hint(node) != ([], []))
    world.disk[keeper].pop(OWN + KEY)  # it was deleted, and that is over
    world.rotten.add((keeper, HINT + KEY))
    world.nodes[keeper].local.records.forget([OWN + KEY, HINT + KEY])
    other = b if keeper == a else a
    world.sent.clear()

    world.nodes[keeper].receive(other, Fetch(77, KEY, 1000))
    world.run()

    (reply,) = [reply for reply in world.messages(FetchReply, to=other) if reply.rid == 77]
    assert (reply.status, reply.record) == (ABSENT, b"")
