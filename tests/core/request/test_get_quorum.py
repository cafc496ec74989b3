"""Gets: what R nodes know, how good the answer is, and what "absent" means (Dynamo 4.5; P3)."""

from __future__ import annotations

from itertools import product

import pytest
from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.messages.requests import Fetch, FetchReply, GetReply, PutReply
from everwrite.core.records import HINT, OWN
from everwrite.core.request.read import GetRequest


def values(reply: GetReply) -> list[bytes]:
    return sorted(value for _, value in reply.values)


# -- N, R, strict ----------------------------------------------------------------------------------


@pytest.mark.scenario(52)
@pytest.mark.parametrize(
    ("nodes", "r", "down", "strict"),
    list(product((3, 5), (1, 2, 3), (0, 1, 2), (False, True))),
)
def test_a_get_succeeds_exactly_while_r_nodes_that_count_can_be_reached(
    nodes: int, r: int, down: int, strict: bool
) -> None:
    world = World(nodes)
    owners = world.order()[:3]
    world.put(owners[0], b"v", w=3)
    world.kill(*owners[1 : 1 + down])
    reachable = 3 if nodes - down >= 3 and not strict else 3 - down

    client = world.send_get(owners[0], r=r, strict=strict)
    world.run()

    if reachable >= r:
        found = world.reply(client, GetReply)
        assert values(found) == [b"v"]
        assert found.quality.owners + (0 if strict else found.quality.fallbacks) >= r
        assert found.quality.required == r
    else:
        failed = world.failure(client)
        assert (failed.code, failed.outcome, failed.required) == ("quorum_not_met", "none", r)
        assert failed.hint.startswith("Nothing was changed.")


def test_a_get_waits_for_r_answers_and_no_longer() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    world.unread |= {b, c}
    client = world.send_get(a, r=2)
    world.silent |= {c}
    world.nodes[b].local.records.forget([OWN + KEY])
    world.run()
    assert world.answers[client] == []

    world.unread.clear()
    world.run()

    assert world.reply(client, GetReply).quality.owners == 2


def test_with_r_plus_w_over_n_a_get_finds_what_was_acknowledged_just_before() -> None:
    for w, r in ((1, 3), (2, 2), (3, 1)):
        world = World(3)
        a, b, c = world.order()
        world.lose = lambda source, target, message, lost=(c, b)[: 3 - w]: target in lost
        world.put(a, b"v", w=w)
        world.lose = lambda source, target, message: False

        assert values(world.get(c, r=r)) == [b"v"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 4}, "n = 4 is not possible: the cluster keeps 3 copies."),
        ({"r": 4}, "r = 4 is not possible with n = 3."),
        ({"n": 2, "r": 3}, "r = 3 is not possible with n = 2."),
        ({"n": -1}, "n = -1 is not possible: the cluster keeps 3 copies."),
        ({"r": -1}, "r = -1 is not possible with n = 3."),
    ],
)
def test_impossible_numbers_are_refused_with_what_is_possible(options: dict, says: str) -> None:
    world = World(3)

    failed = world.refused_get(world.order()[0], **options)

    assert (failed.code, failed.outcome, failed.message) == ("bad_request", "none", says)
    assert failed.hint.startswith("Use ")


def test_an_owner_that_stays_silent_gets_a_spare_after_spare_after_ms() -> None:
    world = World(5, spare_after_ms=100)
    a, b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"v", w=3)
    world.silent |= {b}
    world.dead.discard(c)
    world.silent |= {c}

    client = world.send_get(a, r=2)
    world.advance(200)

    found = world.reply(client, GetReply)
    assert values(found) == [b"v"]
    assert found.quality.fallbacks >= 1
    assert world.messages(Fetch, to=d)


def test_a_read_goes_on_asking_while_its_spares_are_silent_too() -> None:
    """Nodes that are heard and hear nothing count as up: two owners and the first two spares."""
    world = World(7, spare_after_ms=100, down_after_ms=60_000)
    a, b, c, d, e, f, _g = world.order()
    world.silent |= {b, c, d, e}
    client = world.send_put(a, b"v", w=2)
    world.advance(900)
    assert world.reply(client, PutReply).fallbacks == 1
    assert world.hint(f)[1] == [b"v"]

    client = world.send_get(a, r=2)
    world.advance(900)

    assert values(world.reply(client, GetReply)) == [b"v"]


def test_a_peer_that_is_lost_while_it_is_asked_gets_a_spare_at_once() -> None:
    world = World(5)
    a, b, c, d, _e = world.order()
    world.put(a, b"v", w=3)
    world.silent |= {b, c}
    client = world.send_get(a, r=2)
    world.run()
    assert not world.messages(Fetch, to=d)

    world.kill(b)
    world.run()

    assert world.messages(Fetch, to=d)
    world.advance(150)
    assert values(world.reply(client, GetReply)) == [b"v"]


def test_a_get_that_too_few_answer_says_how_many_did() -> None:
    world = World(3)
    a, b, c = world.order()
    world.silent |= {b, c}

    client = world.send_get(a, r=2)
    world.advance(TIMEOUT_MS + 100)

    failed = world.failure(client)
    assert failed.message == "1 of the 2 nodes that this read needs answered in time."
    assert (failed.code, failed.acked, failed.required) == ("quorum_not_met", 1, 2)
    requests = world.nodes[a].local.requests.values()
    assert not any(isinstance(request, GetRequest) for request in requests)


# -- siblings --------------------------------------------------------------------------------------


def test_a_get_returns_every_sibling_that_any_of_r_nodes_has() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: c not in (source, target)
    world.put(a, b"left", w=1)
    world.lose = lambda source, target, message: True
    world.put(c, b"right", w=1)
    world.lose = lambda source, target, message: False

    assert values(world.get(b, r=3)) == [b"left", b"right"]


def test_a_get_shows_no_value_that_another_one_supersedes() -> None:
    world = World(3)
    a, _b, c = world.order()
    first = world.put(a, b"old", w=3)
    world.lose = lambda source, target, message: target == c
    world.put(a, b"new", w=2, context=first.context)
    world.lose = lambda source, target, message: False

    assert values(world.get(c, r=3)) == [b"new"]


# -- absent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 2, 3])
def test_absent_is_never_if_no_owner_has_heard_of_the_key(r: int) -> None:
    world = World(3)

    found = world.get(world.order()[0], r=r)

    assert (found.values, found.context, found.quality.absent) == ([], b"", "never")
    assert found.quality.owners == 3, "whatever r is, all were asked"


def test_absent_is_unknown_if_an_owner_is_down_though_r_others_say_so() -> None:
    """What was acked by stand-ins on the other side of a cut is not on these two."""
    world = World(5)
    a, b, c, *_ = world.order()
    world.kill(c)

    found = world.get(a, r=2)

    assert (found.values, found.quality.absent, found.quality.owners) == ([], "unknown", 2)
    assert b in world.ids


def test_absent_is_unknown_if_a_copy_cannot_be_read() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target in (a, b)
    world.put(c, b"v", w=1)
    world.lose = lambda source, target, message: False
    world.rotten.add((c, OWN + KEY))
    world.nodes[c].local.records.forget([OWN + KEY])

    found = world.get(a, r=2)

    assert (found.values, found.quality.absent, found.quality.unreadable) == ([], "unknown", 1)


def test_absent_is_unknown_if_fewer_than_all_owners_were_asked() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: a in (source, target)
    world.put(c, b"v", w=1)
    world.lose = lambda source, target, message: False

    assert world.get(a, n=1, r=1).quality.absent == "unknown"
    assert b in world.ids


def test_a_key_put_with_n_1_is_never_called_never_written() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", n=1, w=1)
    world.unread |= {a}
    world.nodes[a].local.records.forget([OWN + KEY])

    client = world.send_get(b, r=2)
    world.run()
    assert world.answers[client] == [], "an owner that is up may have it"
    world.unread.clear()
    world.run()

    assert values(world.reply(client, GetReply)) == [b"v"]
    assert c in world.ids


def test_a_read_of_nothing_waits_for_a_slow_owner_no_longer_than_spare_after_ms() -> None:
    world = World(3, spare_after_ms=100)
    a, b, c = world.order()
    world.silent |= {c}

    client = world.send_get(a, r=2)
    world.advance(80)
    assert world.answers[client] == []
    world.advance(60)

    found = world.reply(client, GetReply)
    assert (found.values, found.quality.absent, found.quality.owners) == ([], "unknown", 2)
    assert b in world.ids


def test_a_read_of_nothing_whose_time_is_short_is_answered_all_the_same() -> None:
    world = World(3, spare_after_ms=100)
    a, _b, c = world.order()
    world.silent |= {c}

    client = world.send_get(a, r=2, timeout_ms=40)
    world.advance(80)

    assert world.reply(client, GetReply).quality.absent == "unknown"
    assert world.nodes[a].local.requests == {}


def test_absent_is_deleted_if_the_last_write_is_a_tombstone() -> None:
    world = World(3)
    a, b, _c = world.order()
    done = world.put(a, b"v")
    world.put(a, None, context=done.context)

    found = world.get(b)

    assert (found.values, found.quality.absent) == ([], "deleted")
    assert found.context, "a write after it must know of the tombstone"


def test_absent_is_unknown_if_too_few_owners_answered_to_say() -> None:
    world = World(5)
    a, b, c, *_ = world.order()
    world.kill(b, c)

    found = world.get(a)

    assert (found.values, found.quality.absent) == ([], "unknown")
    assert (found.quality.owners, found.quality.fallbacks) == (1, 2)


def test_a_delete_hides_what_it_knew_and_nothing_else() -> None:
    world = World(3)
    a, b, _c = world.order()
    first = world.put(a, b"v1")
    world.put(b, b"v2")

    world.put(a, None, context=first.context)

    assert values(world.get(b)) == [b"v2"]


@pytest.mark.parametrize("first_to_answer", ["owner", "stand-ins"])
def test_stand_ins_that_have_nothing_do_not_answer_for_an_owner_that_has_it(
    first_to_answer: str,
) -> None:
    """That a stand-in has none says nothing, so the owner that is up is waited for."""
    world = World(5)
    a, b, c, d, e = world.order()
    world.kill(c)
    world.put(a, b"v", w=2)
    world.start(c)
    world.kill(a, c)
    for node in (d, e):
        world.nodes[node].hints.waiting.clear()
        world.nodes[node].hints.owners_of.clear()
        world.disk[node].clear()
    held = b if first_to_answer == "stand-ins" else None
    if held is not None:
        world.unread |= {held}
        world.nodes[held].local.records.forget([OWN + KEY])

    client = world.send_get(d)
    world.run()
    world.unread.clear()
    world.run()

    assert values(world.reply(client, GetReply)) == [b"v"]


def test_stand_ins_that_have_nothing_answer_when_the_owners_stay_silent() -> None:
    """A read is not held up by an owner that hangs: it says that it does not know."""
    world = World(5)
    _a, b, c, d, _e = world.order()
    world.kill(c)
    world.silent |= {b}

    client = world.send_get(d, r=3)
    world.advance(300)

    found = world.reply(client, GetReply)
    assert (found.values, found.quality.absent) == ([], "unknown")


# -- stand-ins' copies -----------------------------------------------------------------------------


def test_a_copy_that_a_stand_in_keeps_is_found_while_its_owners_are_down() -> None:
    world = World(5)
    a, b, c, d, e = world.order()
    world.kill(a, b, c)
    world.put(d, b"v", w=2)

    found = world.get(e)

    assert values(found) == [b"v"]
    assert (found.quality.owners, found.quality.fallbacks) == (0, 2)


def test_a_node_joins_its_own_copy_with_the_one_that_it_keeps_for_others() -> None:
    """With three nodes a note for the one that is down lies beside the coordinator's own copy."""
    world = World(3)
    a, b, c = world.order()
    world.kill(c)
    done = world.put(a, b"v1")
    world.put(b, b"v2", context=done.context)

    assert values(world.get(a)) == [b"v2"]


# -- unreadable ------------------------------------------------------------------------------------


@pytest.mark.scenario(10)
@pytest.mark.parametrize("damage", ["rotten", "broken"])
def test_an_unreadable_copy_is_no_answer_and_never_absent(damage: str) -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    getattr(world, damage).add((a, OWN + KEY))
    world.nodes[a].local.records.forget([OWN + KEY])
    world.silent |= {c}

    found = world.get(b, r=1)
    assert values(found) == [b"v"]
    client = world.send_get(a, r=2)
    world.advance(TIMEOUT_MS + 100)

    failed = world.failure(client)
    assert failed.code == "quorum_not_met"
    assert failed.message == (
        "1 of the 2 nodes that this read needs answered in time, 1 cannot read their copy."
    )


def test_the_answer_says_how_many_copies_were_unreadable() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.put(a, b"v", w=3)
    world.rotten.add((b, OWN + KEY))
    world.nodes[b].local.records.forget([OWN + KEY])

    found = world.get(a, r=2)

    assert values(found) == [b"v"]
    assert found.quality.unreadable <= 1
    assert world.get(b, r=2, key=KEY).quality.owners >= 2


def test_a_stand_in_that_cannot_read_what_it_keeps_says_so() -> None:
    world = World(5)
    a, b, c, d, e = world.order()
    world.kill(a, b, c)
    world.put(d, b"v", w=1)
    world.broken.add((d, HINT + KEY))
    world.nodes[d].local.records.forget([HINT + KEY])
    world.lose = lambda source, target, message: e in (source, target)

    client = world.send_get(d, r=1)
    world.advance(TIMEOUT_MS + 100)

    assert world.failure(client).code == "quorum_not_met"
    assert all(reply.status != 1 for reply in world.messages(FetchReply))


# -- sessions --------------------------------------------------------------------------------------


def test_a_session_gets_an_answer_that_knows_what_it_has_seen_or_none() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target == c
    done = world.put(a, b"v", w=2)
    world.lose = lambda source, target, message: a in (source, target)
    world.kill(a)
    world.lose = lambda source, target, message: b in (source, target)

    client = world.send_get(c, r=1, seen=done.context)
    world.advance(TIMEOUT_MS + 100)
    failed = world.failure(client)
    assert (failed.code, failed.outcome) == ("stale_session", "none")

    world.lose = lambda source, target, message: False
    assert values(world.get(c, r=1, seen=done.context)) == [b"v"]


def test_a_session_waits_for_the_node_that_knows_enough() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target == c
    done = world.put(a, b"v", w=2)
    world.lose = lambda source, target, message: False
    for node in (a, b):
        world.unread.add(node)
        world.nodes[node].local.records.forget([OWN + KEY])
    client = world.send_get(c, r=1, seen=done.context)
    world.run()
    assert world.answers[client] == [], "this node alone has not seen what the session has"

    world.unread.clear()
    world.run()

    assert values(world.reply(client, GetReply)) == [b"v"]
