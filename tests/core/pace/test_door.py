"""What waits at a node's door, and who is refused there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import KEY, World

from everwrite.core.messages.requests import Failure, Fetch, Get, Put, Store, Touch
from everwrite.core.pace.door import PATIENCE_US, STANDING_US, Asked, Door, Waiting
from everwrite.core.records import weight
from everwrite.core.request.forward import TakenOver

MS = 1000
ROOM = 1 << 20


def lines_up(door: Door, source: int, asked: Asked, now_us: int) -> bool:
    return not door.line_up(source, [asked], now_us, now_us // MS)


def get(rid: int, timeout_ms: int = 5_000) -> Get:
    return Get(rid, KEY, timeout_ms)


def put(rid: int, value: bytes = b"v", *, retry: bool = False) -> Put:
    return Put(rid, KEY, value, b"", b"op", 5_000, retry=retry)


def verdicts(door: Door, now_us: int) -> list[str]:
    """Take all that waits."""
    found = []
    while (entry := door.next(now_us)) is not None:
        found.append(entry[1])
    return found


def test_requests_are_let_in_in_the_order_in_which_they_came() -> None:
    door = Door(10, ROOM)
    for rid in range(5):
        assert lines_up(door, 1, get(rid), rid)

    taken = [door.next(9) for _ in range(5)]

    assert [entry[0].message.rid for entry in taken if entry is not None] == [0, 1, 2, 3, 4]
    assert door.next(9) is None


@pytest.mark.parametrize(
    "asked",
    [
        Put(1, KEY, b"v" * 900, b"", b"op", 5_000),
        Put(1, KEY, b"", b"c" * 900, b"op", 5_000),
        Get(1, KEY, 5_000, seen=b"s" * 900),
        Get(1, b"k" * 900, 5_000),
        Touch(1, b"k" * 900, 1_000, b"op", 5_000),
    ],
)
def test_all_that_may_be_long_counts(asked: Asked) -> None:
    door = Door(10, 1_000)
    assert lines_up(door, 1, asked, 0)
    assert 900 <= door.bytes <= 1_000

    assert not lines_up(door, 1, asked, 0)
    assert verdicts(door, 0) == ["in"]
    assert door.bytes == 0


def test_a_put_that_waits_for_the_disk_counts_with_its_context_and_its_key() -> None:
    put = Put(1, b"k" * 10, b"v" * 20, b"c" * 40, b"op", 5_000)

    assert weight(put) == weight(TakenOver(1, put)) == 70
    assert weight(Get(1, b"k" * 10, 5_000, seen=b"s" * 80)) == 90


def test_a_burst_is_served_though_its_last_one_waits_longer_than_the_patience() -> None:
    door = Door(100, ROOM)
    for rid in range(50):
        lines_up(door, 1, get(rid), 0)

    assert verdicts(door, PATIENCE_US + 50 * MS) == ["in"] * 50
    assert door.refused == 0


def test_where_somebody_always_waits_the_patience_is_short() -> None:
    door, now = Door(100_000, ROOM), 0
    lines_up(door, 1, get(0), now)
    while now <= STANDING_US:
        now += 10 * MS
        lines_up(door, 1, get(now), now)
        lines_up(door, 1, get(now + 1), now)
        door.next(now)

    refused = [entry for entry in iter(lambda: door.next(now), None) if entry[1] == "overloaded"]

    assert refused
    assert all(now - entry[0].came_us > PATIENCE_US for entry in refused)


def test_once_nobody_waited_the_patience_is_long_again() -> None:
    door = Door(10, ROOM)
    lines_up(door, 1, get(1), 0)
    assert verdicts(door, 2 * STANDING_US) == ["overloaded"]

    lines_up(door, 1, get(2), 3 * STANDING_US)

    assert verdicts(door, 3 * STANDING_US + 2 * PATIENCE_US) == ["in"]


def test_whose_own_time_is_over_is_not_served() -> None:
    door = Door(10, ROOM)
    lines_up(door, 1, get(1, timeout_ms=20), 0)
    lines_up(door, 1, Fetch(2, KEY, 20), 0)
    lines_up(door, 1, get(3, timeout_ms=40), 0)

    assert verdicts(door, 30 * MS) == ["late", "late", "in"]


def test_a_queue_at_its_cap_refuses_at_once() -> None:
    few, small = Door(3, ROOM), Door(100, 100 + 2 * len(KEY))

    assert [lines_up(few, 1, get(rid), 0) for rid in range(5)] == [True] * 3 + [False] * 2
    assert [lines_up(small, 1, put(rid, b"x" * 40), 0) for rid in range(4)] == [True, True] + [
        False
    ] * 2
    verdicts(small, 1)
    assert small.bytes == 0
    assert lines_up(small, 1, put(9, b"x" * 100), 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60), st.booleans()), max_size=200))
def test_everyone_who_came_is_let_in_or_refused_once(steps: list[tuple[int, int, bool]]) -> None:
    door, now = Door(20, 500), 0
    came, seen = set(), []
    for rid, (gap_ms, size, takes) in enumerate(steps):
        now += gap_ms * MS
        if lines_up(door, 1, put(rid, b"x" * size), now):
            came.add(rid)
        if takes and (entry := door.next(now)) is not None:
            seen.append(entry)
        assert len(door) <= 20
        assert door.bytes <= 500
    seen += list(iter(lambda: door.next(now), None))

    assert [entry[0].message.rid for entry in seen] == sorted(came)
    for waiting, verdict in seen:
        assert isinstance(waiting, Waiting)
        assert verdict == "in" or now - waiting.came_us > 0


def test_ten_times_the_load_costs_a_tenth_of_the_work() -> None:
    """A node that does 1000 requests a second, and refuses one in a tenth of that time."""
    door, now, done, rid = Door(20_000, ROOM), 0, [], 0
    for _ in range(20_000):  # steps of half a millisecond: ten seconds
        now += 500
        for _ in range(5):
            rid += 1
            lines_up(door, 1, get(rid, 1_000), now)
        left_us = 500
        while left_us > 0 and (entry := door.next(now)) is not None:
            left_us -= 1000 if entry[1] == "in" else 50
            if entry[1] == "in":
                done.append((now, now - entry[0].came_us))
        now += max(0, -left_us)

    last = [waited for at, waited in done if at > now - 5_000_000]
    assert len(last) > 0.4 * 5 * 1000  # nine refusals for each that is served
    assert max(last) <= PATIENCE_US


def overloaded_for(door: Door, now_us: int, seconds: float) -> dict[int, list[bool]]:
    """Let ten connections ask for ten times what is done: one each in every millisecond, of which
    one is begun. Return who was let in and refused as they came, by connection.
    """
    came: dict[int, list[bool]] = {source: [] for source in range(10)}
    for at in range(now_us, now_us + int(seconds * 1e6), MS):
        for source in range(10):
            came[source].append(lines_up(door, source, get(at), at))
        while (entry := door.next(at)) is not None and entry[1] != "in":
            pass
    return came


def test_who_would_wait_in_vain_is_refused_as_it_comes() -> None:
    door = Door(100_000, ROOM)
    overloaded_for(door, 0, 2)
    before = door.refused

    came = overloaded_for(door, 2_000_000, 2)

    at_once = sum(taken.count(False) for taken in came.values())
    assert at_once > 0.85 * 2 * 10_000
    assert at_once > 0.9 * (door.refused - before)
    assert len(door) <= 2 * PATIENCE_US // MS


def test_who_is_let_in_of_too_many_is_left_to_chance_and_not_to_the_order() -> None:
    door = Door(100_000, ROOM)
    overloaded_for(door, 0, 2)

    came = overloaded_for(door, 2_000_000, 4)

    taken = [sum(each) for each in came.values()]
    assert max(taken) < 1.4 * min(taken)


def test_nodes_refuse_the_same_requests() -> None:
    """A read asks two nodes: what one does for it is in vain if the other has refused."""
    two = [Door(100_000, ROOM), Door(100_000, ROOM)]
    for door in two:
        overloaded_for(door, 0, 2)

    both = list(zip(*(overloaded_for(door, 2_000_000, 2)[0] for door in two), strict=True))

    once = sum(any(taken) for taken in both)
    assert once > 100
    assert sum(all(taken) for taken in both) > 0.95 * once


def test_who_is_let_in_of_clients_that_began_at_once_is_left_to_chance_too() -> None:
    """Each of them counts its requests from one."""
    door = Door(100_000, ROOM)
    overloaded_for(door, 0, 2)

    asked = [Get(1, KEY + b"%d" % source, 5_000) for source in range(1_000)]
    taken = sum(lines_up(door, source, each, 2_000_000) for source, each in enumerate(asked))

    assert 50 < taken < 250


def test_who_was_refused_may_be_let_in_a_second_later() -> None:
    door = Door(100_000, ROOM)
    overloaded_for(door, 0, 2)
    refused = [rid for rid in range(2_000) if not lines_up(door, 1, get(rid), 2_000_000)]
    assert len(refused) > 1_500

    overloaded_for(door, 2_000_000, 2)
    still = [rid for rid in refused if not lines_up(door, 1, get(rid), 4_000_000)]

    assert 0 < len(refused) - len(still) < 0.3 * len(refused)


def test_when_the_many_are_gone_everyone_is_let_in_soon() -> None:
    door, now = Door(100_000, ROOM), 2_000_000
    overloaded_for(door, 0, 2)
    while door.next(now) is not None:
        pass

    refused = []
    for at in range(now, now + 1_000_000, 10 * MS):  # so few that there is time for all of them
        refused += [at - now for _ in range(5) if not lines_up(door, 1, get(at), at)]
        verdicts(door, at + MS)

    assert all(at < 400_000 for at in refused)
    assert len(refused) < 100


def test_who_comes_to_an_empty_door_is_let_in_however_many_were_refused() -> None:
    door = Door(100_000, ROOM)
    overloaded_for(door, 0, 2)
    while door.next(2_000_000) is not None:
        pass

    for at in range(2_000_000, 2_020_000, MS):
        assert lines_up(door, 1, get(at), at)
        assert verdicts(door, at) == ["in"]


def test_a_refusal_says_when_to_come_again_and_that_nothing_was_done() -> None:
    world = World()
    node = world.nodes[world.ids[0]]

    node.clients.turn_away(7, [put(1)], "overloaded")
    node.clients.turn_away(7, [put(2, retry=True)], "overloaded")
    node.clients.turn_away(7, [get(3)], "late")

    first, again, late = node.out.sends[7]
    assert isinstance(first, Failure) and isinstance(again, Failure) and isinstance(late, Failure)
    assert (first.code, first.outcome, first.rid) == ("overloaded", "none", 1)
    assert first.retry_after_ms > 0
    assert again.outcome == "unknown"
    assert "This node has not carried it out; another may have" in again.hint
    assert late.code == "deadline_exceeded"


def test_a_put_that_waited_until_its_client_asked_elsewhere_looks_for_that_first() -> None:
    """Else one put would be written twice, as two siblings."""
    world = World()
    first, second, _ = world.ids
    world.answers[7] = []
    world.lose = lambda source, target, message: target == first and isinstance(message, Store)
    world.nodes[second].receive(7, put(2, retry=True))
    world.run()
    world.lose = lambda source, target, message: False

    world.nodes[first].clients.let_in(7, put(1), 300)
    world.run()

    assert all(len(world.record(node).siblings) == 1 for node in world.ids)
    assert world.nodes[first].late_ms == 0
