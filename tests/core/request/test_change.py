"""Changes of data types, and puts over all there is, through real cores."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.world import KEY, STEP_MS, World

from everwrite.core.data import context, versions
from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.messages.requests import Failure, Fetch, GetReply, PutReply, Store, StoreReply
from everwrite.core.records import OWN
from everwrite.core.types import operations
from everwrite.core.types.composed import Composed, Counter, Map, Register, Set
from everwrite.core.types.composing import compose
from everwrite.core.types.operations import (
    Add,
    Assign,
    Exclude,
    Include,
    Operation,
    Remove,
)

MINUTE = 60_000


def send(world: World, node: bytes, *asked: Operation, **options: Any) -> int:
    return world.send_put(node, operations.encode(list(asked)), change=True, **options)


def change(world: World, node: bytes, *asked: Operation, **options: Any) -> PutReply:
    client = send(world, node, *asked, **options)
    world.run()
    reply: PutReply = world.reply(client, PutReply)
    return reply


def refused(world: World, node: bytes, *asked: Operation, **options: Any) -> Failure:
    client = send(world, node, *asked, **options)
    world.run()
    return world.failure(client)


def shown(world: World, node: bytes, **options: Any) -> Composed | None:
    reply: GetReply = world.get(node, marks=True, **options)
    return compose(reply.values, reply.marks)


# -- changes ---------------------------------------------------------------------------------------


def test_a_change_is_on_all_replicas_and_any_node_reads_it() -> None:
    world = World(3)
    a, b, c = world.order()

    reply = change(world, a, Add(["n"], 3), Include(["s"], ["x"]), w=3)

    assert (reply.owners, reply.siblings, reply.results) == (3, 1, [3, 1])
    for node in (a, b, c):
        assert shown(world, node) == Map({"n": Counter(3), "s": Set(["x"])})
    assert world.disk[a].keys() == world.disk[b].keys() == world.disk[c].keys()
    assert all(each.kind == KIND_PIECE for each in world.record(b).siblings)


def test_changes_at_several_coordinators_at_once_are_all_there() -> None:
    world = World(3)
    nodes = world.order()
    for node in nodes:
        change(world, node, Add([], 0), w=3)
    clients = [send(world, node, Add([], 10**number)) for number, node in enumerate(nodes)]
    world.run()

    assert [world.reply(client, PutReply).results[0] for client in clients] == [1, 10, 100]
    assert [shown(world, node, r=3) for node in nodes] == [Counter(111)] * 3
    assert world.nodes[nodes[0]].local.counters.siblings_met == 0, "pieces are one value"


def test_an_add_that_a_remove_has_not_seen_stands_when_two_sides_meet_again() -> None:
    world = World(3)
    a, b, c = world.order()
    change(world, a, Include([], ["x", "y"]), w=3)
    world.lose = lambda source, target, message: True
    change(world, a, Include([], ["x"]), w=1)
    assert change(world, b, Exclude([], ["x", "y"]), w=1).results == [2]
    world.lose = lambda source, target, message: False

    assert shown(world, c, r=3) == Set(["x"])


def test_a_value_that_an_integer_was_put_under_is_counted_on() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.put(a, b"41")

    assert change(world, b, Add([], 1)).results == [42]
    assert shown(world, a) == Counter(42)


def test_a_change_for_another_type_is_refused_and_changes_nothing() -> None:
    world = World(3)
    a, b, _c = world.order()
    change(world, a, Include([], ["x"]), w=3)
    before = dict(world.disk[b])

    failed = refused(world, b, Add([], 1))

    assert (failed.code, failed.outcome) == ("wrong_type", "none")
    assert world.disk[b] == before


def test_a_clash_is_counted_by_who_meets_it() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.lose = lambda source, target, message: True
    for node, asked in ((a, Include([], ["x"])), (b, Add([], 1))):
        send(world, node, asked, w=1)
        world.advance(2 * world.config.spare_after_ms)
    world.lose = lambda source, target, message: False
    before = shown(world, a, r=3)

    change(world, a, Add([], 1) if isinstance(before, Counter) else Include([], ["y"]))

    assert world.nodes[a].local.counters.types_clashed == 1
    assert shown(world, a) in (Counter(2), Set(["x", "y"]))


def test_too_many_pieces_are_refused_and_siblings_max_is_not_about_pieces() -> None:
    world = World(3, siblings_max=2, pieces_max=5)
    a, *_ = world.order()
    change(world, a, Include([], ["a", "b", "c", "d", "e"]))

    failed = refused(world, a, Include([], ["f"]))

    assert (failed.code, failed.outcome) == ("too_large", "none")
    world.put(a, b"1")
    world.put(a, b"2")
    assert (
        world.refused_put(a, b"3").message
        == "At carts/alice, the key has 2 siblings; the most is 2."
    )


@pytest.mark.parametrize(
    "options",
    [{"kind": 1}, {"over": True}, {"value": None}, {"value": b"garbage"}],
    ids=repr,
)
def test_a_change_that_is_none_is_refused(options: dict[str, Any]) -> None:
    world = World(3)
    a, *_ = world.order()
    value = options.pop("value", operations.encode([Add([], 1)]))

    failed = world.refused_put(a, value, change=True, **options)

    assert (failed.code, failed.outcome) == ("bad_request", "none")
    assert not any(world.disk.values())


def test_a_client_cannot_send_a_piece() -> None:
    world = World(3)
    a, *_ = world.order()

    assert world.refused_put(a, b"\x93\x01\x90\x01", kind=KIND_PIECE).code == "bad_request"


# -- what must be known first ----------------------------------------------------------------------


def test_a_change_through_a_node_that_is_no_replica_is_handed_on() -> None:
    world = World(4)
    a, _b, _c, d = world.order()
    change(world, a, Add([], 5))

    reply = change(world, d, Add([], 2))

    assert (reply.stale_view, reply.results) == (True, [7])


def test_a_node_that_only_stands_in_looks_at_what_others_have() -> None:
    world = World(5)
    a, b, c, d, _e = world.order()
    change(world, a, Include([], ["x", "y"]), w=3)
    world.kill(a, b)

    assert change(world, d, Exclude([], ["x"]), forwarded=False).results == [1]

    world.kill(d)
    world.start(a, b)
    world.kill(c)
    world.start(d)
    world.until(lambda: shown(world, a, r=2) == Set(["y"]))


def test_an_owner_that_has_no_copy_asks_before_it_begins_a_counter_anew() -> None:
    world = World(3)
    a, b, c = world.order()
    world.kill(c)
    change(world, a, Add([], 5))
    world.start(c)
    world.disk[c].clear()

    assert change(world, c, Add([], 1)).results == [6]
    assert world.messages(Fetch, to=b)
    before = len(world.messages(Fetch))
    assert change(world, c, Add([], 1)).results == [7]
    assert len(world.messages(Fetch)) == before, "it has a copy now"


def test_what_a_session_has_seen_is_known_before_a_change_is_made() -> None:
    """The writer's last change went through a node whose copy has not come here yet."""
    world = World(3)
    a, b, c = world.order()
    change(world, a, Add([], 1), w=3)
    world.lose = lambda source, target, message: target == c
    token = change(world, a, Add([], 10), w=2).context
    world.lose = lambda source, target, message: False

    assert change(world, c, Add([], 100), context=token).results == [111]
    assert versions.values_in(world.record(b).siblings) == 1


def test_a_change_that_cannot_know_what_its_writer_has_seen_is_refused() -> None:
    """Else a remove of what its coordinator lacks would be acknowledged, and take nothing away."""
    world = World(3)
    a, b, c = world.order()
    change(world, a, Include([], ["y"]), w=3)
    world.lose = lambda source, target, message: target == c
    token = change(world, a, Include([], ["x"]), w=2).context
    world.lose = lambda source, target, message: {source, target} in ({a, c}, {b, c})

    failed = world.failure(_advanced(world, send(world, c, Exclude([], ["x"]), context=token)))

    assert (failed.code, failed.outcome) == ("stale_session", "none")
    world.lose = lambda source, target, message: False
    assert change(world, c, Exclude([], ["x"]), context=token).results == [1]
    assert shown(world, b, r=3) == Set(["y"])


def test_what_a_session_has_seen_may_be_with_a_stand_in_alone() -> None:
    """All owners answer, and none has it: its hint has not come home yet."""
    world = World(4)
    a, b, c, d = world.order()
    for node in (a, b, c):
        world.kill(node)
    token = change(world, d, Include([], ["x"]), w=1).context
    world.lose = lambda source, target, message: source == d and isinstance(message, Store)
    for node in (a, b, c):
        world.start(node)

    assert change(world, a, Exclude([], ["x"]), context=token).results == [1]
    world.lose = lambda source, target, message: False
    assert shown(world, b, r=3) is None


def test_a_change_is_refused_while_a_stand_in_may_have_what_its_writer_has_seen() -> None:
    world = World(4)
    a, b, c, d = world.order()
    for node in (a, b, c):
        world.kill(node)
    token = change(world, d, Include([], ["x"]), w=1).context
    world.kill(d)
    for node in (a, b, c):
        world.start(node)

    failed = world.failure(_advanced(world, send(world, a, Exclude([], ["x"]), context=token)))

    assert (failed.code, failed.outcome) == ("stale_session", "none")


def test_a_change_with_a_context_of_what_all_have_forgotten_is_carried_out() -> None:
    world = World(3)
    a, b, c = world.order()
    token = change(world, a, Include([], ["x"]), w=3).context
    for node in (a, b, c):
        world.disk[node].clear()
        world.nodes[node].local.records.forget([OWN + KEY])

    assert change(world, b, Include([], ["y"]), context=token).results == [1]
    assert shown(world, c) == Set(["y"])


def test_what_a_session_has_seen_is_not_asked_for_once_all_of_it_has_ended() -> None:
    """Nobody may know it any more, and one member is down: nobody could say that."""
    world = World(4)
    a, b, c, d = world.order()
    token = change(world, a, Include([], ["x"]), w=3, ttl_ms=MINUTE).context
    again = change(world, a, Include([], ["y"]), w=3, ttl_ms=2 * MINUTE).context
    for node in (a, b, c):
        world.disk[node].clear()
        world.nodes[node].local.records.forget([OWN + KEY])
    world.kill(d)
    client = send(world, a, Include([], ["z"]), context=token)
    assert world.failure(_advanced(world, client)).code == "stale_session"

    world.advance(MINUTE)
    assert change(world, b, Include([], ["z"]), context=token, ttl_ms=MINUTE).results == [1]
    assert change(world, b, Include([], ["z"]), context=token, retry=True, op=b"r").results == [0]
    assert shown(world, c, seen=token) == Set(["z"])
    client = send(world, a, Include([], ["z"]), context=again)
    assert world.failure(_advanced(world, client)).code == "stale_session"
    world.advance(MINUTE)
    assert change(world, b, Include([], ["z"]), context=again).results == [1]


def test_a_context_has_no_end_where_something_stays_that_its_coordinator_knew() -> None:
    world = World(3)
    a, *_ = world.order()
    change(world, a, Include(["s"], ["x"]))
    for what in (Add(["n"], 1), Include(["s"], ["x"])):
        token = change(world, a, what, ttl_ms=MINUTE).context
        assert context.peek(token).ends == 0


def test_a_change_gives_out_a_context_that_supersedes_no_more_than_itself() -> None:
    world = World(3)
    a, *_ = world.order()
    change(world, a, Include([], ["x"]))
    token = change(world, a, Include([], ["y"])).context

    seen = context.verify(b"k" * 32, KEY, token)

    assert seen.clock == {}
    assert [(a, 2)] == [(actor[:8], counter) for actor, counter in seen.dots]
    assert world.get(a, seen=token).values


def test_a_change_of_nothing_writes_nothing() -> None:
    world = World(3)
    a, b, _c = world.order()

    reply = change(world, a, Exclude([], ["x"]), Remove(["q"]))

    assert (reply.results, reply.siblings) == ([0, 0], 0)
    assert not any(world.disk.values())

    world.kill(b, _c)
    failed = world.failure(_advanced(world, send(world, a, Exclude([], ["x"]), w=1)))
    assert failed.code == "quorum_not_met", "too few owners say that nothing is there"


def _advanced(world: World, client: int) -> int:
    world.advance(2 * world.config.spare_after_ms)
    return client


def test_a_change_that_changes_nothing_is_as_sure_as_any() -> None:
    """What it tells is on W nodes when it is told."""
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target != a and not isinstance(message, Fetch)
    send(world, a, Include([], ["x"]), w=1)
    world.advance(STEP_MS)
    world.lose = lambda source, target, message: False

    reply = change(world, a, Exclude([], ["q"]), w=3)

    assert (reply.owners, reply.results) == (3, [0])
    assert world.record(b) == world.record(c) == world.record(a)


# -- ends ------------------------------------------------------------------------------------------


def test_a_change_does_not_make_a_session_immortal() -> None:
    world = World(3)
    a, b, _c = world.order()
    end = change(world, a, Assign(["user"], b"u"), ttl_ms=MINUTE).ends
    world.advance(1000)

    assert change(world, b, Add(["hits"], 1)).ends == end
    world.advance(MINUTE - 1000)
    assert shown(world, b) is None
    assert world.get(b).quality.absent == "expired"
    assert change(world, b, Add(["hits"], 1)).results == [1]


def test_a_node_that_does_not_know_the_time_changes_nothing_that_ends() -> None:
    world = World(3)
    a, *_ = world.order()
    change(world, a, Add([], 1), ttl_ms=MINUTE)
    world.nodes[a].local.clock.known = False

    assert refused(world, a, Add([], 1)).code == "unavailable"


# -- puts over all there is ------------------------------------------------------------------------


def test_a_put_over_all_needs_no_context_and_the_last_one_wins() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.put(a, b"1")
    world.put(a, b"2")

    reply = world.put(b, b"3", over=True)

    assert reply.siblings == 1
    assert world.values(a) == [b"3"]
    assert shown(world, a) == Register(b"3", 0)


def test_a_put_over_all_is_later_than_what_it_supersedes() -> None:
    world = World(3)
    a, b, _c = world.order()
    change(world, a, Assign([], b"v"))
    early = world.record(a).siblings[0].time_ms
    world.nodes[b].local.clock._offset -= 5000
    world.nodes[b].local.clock._told_ms = 0

    world.put(b, b"w", over=True)

    assert world.record(b).siblings[0].time_ms == early + 1


def test_two_puts_over_all_at_once_are_siblings_of_which_one_is_shown() -> None:
    world = World(3)
    a, b, _c = world.order()
    clients = [world.send_put(node, node[:1], over=True) for node in (a, b)]
    world.run()

    assert all(type(world.answers[client][0]) is PutReply for client in clients)
    assert len(world.get(a, r=3).values) == 2
    assert shown(world, a, r=3) == Register(max(a, b)[:1], 0)


def test_an_increment_that_a_put_over_all_has_not_seen_is_added_to_it() -> None:
    world = World(3)
    a, b, c = world.order()
    change(world, a, Add([], 5), w=3)
    world.lose = lambda source, target, message: True
    send(world, a, Add([], 1), w=1)
    world.send_put(b, b"100", over=True, w=1)
    world.run()
    world.lose = lambda source, target, message: False

    assert shown(world, c, r=3) == Counter(101)


def test_a_stand_in_looks_around_before_it_deletes_all_there_is() -> None:
    world = World(5)
    a, b, c, d, _e = world.order()
    change(world, a, Include([], ["x"]), w=3)
    world.kill(a, b)

    world.put(d, None, over=True)

    assert shown(world, c, r=2) is None


def test_a_session_that_is_put_over_itself_when_it_has_ended_leaves_no_tombstone() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=MINUTE, over=True)
    world.advance(MINUTE)

    world.put(a, b"w", ttl_ms=MINUTE, over=True)

    assert all(each.pure for each in world.record(a).siblings)
    assert [value for _, value in world.get(a).values] == [b"w"]
    world.put(a, b"x", ttl_ms=MINUTE, over=True)
    assert [each.pure for each in world.record(a).siblings] == [False]


def test_acks_of_a_change_count_as_those_of_any_put() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: isinstance(message, StoreReply)

    client = send(world, a, Add([], 1), w=2)
    world.run()

    assert world.answers[client] == []
    assert {len(world.messages(Store, to=node)) for node in (b, c)} == {1}
