"""The time of day: what a minority says moves nobody, and it never runs backwards."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from everwrite.core.expiry.clock import FAR_MS, FORGET_MS, TRIP_MAX_MS, Clock

YEARS = 10 * 365 * 86_400_000
START = 1_700_000_000_000
NOW = 50_000
STEP_MS = 100
A_WHILE_MS = 10_000


def clock_of(members: int, *, wrong_ms: int = 0, now: int = NOW) -> Clock:
    return Clock(now, START + wrong_ms, members)


def passes(clock: Clock, peers: dict[bytes, int], ms: int, now: int, wrong_ms: int = 0) -> int:
    """Let this time pass; all peers tell their time, each wrong by so much; return what it is."""
    end = now + ms
    while now < end:
        now += STEP_MS
        true_ms = START + now - NOW
        for peer, wrong in peers.items():
            clock.said(peer, now, true_ms + wrong, 0)
        clock.own(now, true_ms + wrong_ms)
    return now


def error_ms(clock: Clock, now: int) -> int:
    return clock.time_ms(now) - (START + now - NOW)


# -- alone -----------------------------------------------------------------------------------------


def test_a_node_that_is_alone_goes_by_its_own_clock_and_is_sure() -> None:
    clock = clock_of(1)

    assert clock.time_ms(NOW + 5) == START + 5
    assert clock.sure and not clock.wrong


def test_a_clock_that_is_set_back_does_not_take_time_back() -> None:
    clock = clock_of(1)
    now = passes(clock, {}, A_WHILE_MS, NOW)
    told = clock.time_ms(now)

    for _ in range(50):
        now += STEP_MS
        clock.own(now, START - YEARS)
        assert clock.time_ms(now) >= told
        told = clock.time_ms(now)
    assert not clock.sure


def test_a_jump_of_the_only_clock_that_there_is_moves_time_slowly_and_nothing_is_sure() -> None:
    clock = clock_of(1)
    now = passes(clock, {}, A_WHILE_MS, NOW)

    now = passes(clock, {}, 10_000, now, YEARS)

    assert error_ms(clock, now) <= 1_000
    assert not clock.sure


def test_a_node_does_not_know_the_time_before_a_majority_agrees_with_it() -> None:
    clock = clock_of(3)
    clock.own(NOW, START)
    assert not clock.known

    clock.said(b"b", NOW + 1, START + YEARS, 0)
    assert not clock.known
    clock.said(b"c", NOW + 2, START + 2, 0)
    assert clock.known
    assert error_ms(clock, NOW + 2) == 0


def test_who_knew_the_time_goes_on_knowing_it_when_nobody_is_heard_any_more() -> None:
    clock = clock_of(3)
    now = passes(clock, {b"b": 0, b"c": 0}, 1_000, NOW)

    now = passes(clock, {}, FORGET_MS + 1_000, now, YEARS)

    assert clock.known and error_ms(clock, now) == 0


# -- among others ----------------------------------------------------------------------------------


def test_a_node_that_starts_with_a_wrong_clock_takes_the_time_from_the_others() -> None:
    for wrong_ms in (YEARS, -YEARS):
        clock = clock_of(3, wrong_ms=wrong_ms)
        assert not clock.sure

        now = passes(clock, {b"b": 0, b"c": 0}, 200, NOW, wrong_ms)

        assert error_ms(clock, now) == 0
        assert clock.sure and clock.wrong


def test_one_peer_of_three_members_is_no_majority_against_the_own_clock() -> None:
    clock = clock_of(3)

    now = passes(clock, {b"b": YEARS}, A_WHILE_MS + 5_000, NOW)

    assert error_ms(clock, now) == 0
    assert not clock.sure


def test_two_wrong_peers_of_five_members_are_no_majority_though_nobody_else_is_heard() -> None:
    clock = clock_of(5)

    now = passes(clock, {b"b": YEARS, b"c": YEARS}, A_WHILE_MS + 5_000, NOW)

    assert error_ms(clock, now) == 0
    assert not clock.sure


def test_a_jump_of_the_own_clock_moves_nothing() -> None:
    for jump_ms in (YEARS, -YEARS):
        clock = clock_of(3)
        now = passes(clock, {b"b": 0, b"c": 0}, A_WHILE_MS, NOW)

        now = passes(clock, {b"b": 0, b"c": 0}, 5_000, now, jump_ms)

        assert error_ms(clock, now) == 0
        assert clock.sure and clock.wrong


def test_two_nodes_that_disagree_are_not_sure_and_stay_where_they_are() -> None:
    clock = clock_of(2)
    now = passes(clock, {b"b": 0}, A_WHILE_MS, NOW)

    now = passes(clock, {b"b": 0}, 5_000, now, -YEARS)

    assert error_ms(clock, now) == 0
    assert not clock.sure


def test_a_machine_that_slept_goes_forward_at_once() -> None:
    """Its monotonic clock stood still, so all others seem to have jumped."""
    clock = clock_of(3)
    now = passes(clock, {b"b": 0, b"c": 0}, A_WHILE_MS, NOW)
    hour = 3_600_000

    now = passes(clock, {b"b": hour, b"c": hour}, 200, now, hour)

    assert error_ms(clock, now) == hour
    assert clock.sure


def test_a_small_difference_is_followed_slowly() -> None:
    clock = clock_of(3)
    now = passes(clock, {b"b": 0, b"c": 0}, A_WHILE_MS, NOW)

    now = passes(clock, {b"b": 400, b"c": 400}, 1_000, now)
    assert 80 <= error_ms(clock, now) <= 120
    now = passes(clock, {b"b": 400, b"c": 400}, 10_000, now)
    assert error_ms(clock, now) == 400


def test_a_monotonic_clock_that_runs_too_fast_is_held_back() -> None:
    """By a twentieth, which no machine does that is well."""
    clock = clock_of(3)
    now = passes(clock, {b"b": 0, b"c": 0}, A_WHILE_MS, NOW)
    true_ms = START + now - NOW

    for _ in range(1_000):
        now, true_ms = now + 105, true_ms + 100
        for peer in (b"b", b"c"):
            clock.said(peer, now, true_ms, 0)
        clock.own(now, true_ms)

    assert abs(clock.time_ms(now) - true_ms) <= 20


def test_a_pong_that_lay_around_is_not_believed() -> None:
    clock = clock_of(3)
    now = passes(clock, {b"b": 0, b"c": 0}, A_WHILE_MS, NOW)
    stale = START + now - NOW - 60_000

    for _ in range(100):
        now += STEP_MS
        for peer in (b"b", b"c"):
            clock.said(peer, now, stale, TRIP_MAX_MS + 1)
        clock.own(now, START + now - NOW)

    assert error_ms(clock, now) == 0
    assert clock.sure


def test_who_hears_no_majority_for_a_while_is_not_sure_and_goes_on() -> None:
    clock = clock_of(3)
    now = passes(clock, {b"b": 0, b"c": 0}, A_WHILE_MS, NOW)

    now = passes(clock, {}, FORGET_MS + 1_000, now)

    assert error_ms(clock, now) == 0
    assert not clock.sure


# -- worlds ----------------------------------------------------------------------------------------


class Trouble(NamedTuple):
    """What goes wrong in one step of a world."""

    jump: int
    """By how much one of the bad clocks jumps."""
    bad: int
    """Which one of them."""
    deaf: frozenset[tuple[int, int]]
    """(listener, speaker) of pongs that are lost."""
    trip: int
    """How long the others take."""


@st.composite
def troubles(draw: st.DrawFn) -> tuple[int, list[Trouble]]:
    """Return a number of nodes, and what happens to them."""
    nodes = draw(st.integers(1, 5))
    pairs = st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1))
    trouble = st.builds(
        Trouble,
        st.sampled_from([0, 0, 0, 5_000, -5_000, YEARS, -YEARS]),
        st.integers(0, 4),
        st.frozensets(pairs, max_size=6),
        st.sampled_from([0, 2, 40, 190, 5_000]),
    )
    return nodes, draw(st.lists(trouble, min_size=1, max_size=40))


@given(troubles())
@settings(max_examples=300, deadline=None)
def test_no_minority_of_wrong_clocks_moves_anybody(story: tuple[int, list[Trouble]]) -> None:
    """Whoever is wrong, from whenever, and whatever is lost: the time of every node whose own clock
    is right stays right, and so does that of a wrong one that knows it; it never runs backwards.
    """
    nodes, troubles = story
    bad = (nodes - 1) // 2
    wrong = [0] * nodes
    monotonic = [10_000 * (node + 1) for node in range(nodes)]
    clocks = [clock_of(nodes, now=monotonic[node]) for node in range(nodes)]
    told = [0] * nodes
    passed = 0
    for trouble in troubles:
        if bad:
            wrong[trouble.bad % bad] += trouble.jump
        for _ in range(4):
            passed += 500
            for me, clock in enumerate(clocks):
                now = monotonic[me] + passed
                for peer in range(nodes):
                    if peer != me and (me, peer) not in trouble.deaf:
                        # Sent half the trip ago, and believed if that is not long.
                        sent = START + passed + wrong[peer] - trouble.trip // 2
                        clock.said(bytes((peer,)), now, sent, trouble.trip)
                clock.own(now, START + passed + wrong[me])
                time_ms = clock.time_ms(now)
                assert time_ms >= told[me]
                if clock.known:
                    told[me] = time_ms
                    assert abs(time_ms - START - passed) <= FAR_MS + TRIP_MAX_MS
                if me >= bad:
                    assert abs(time_ms - START - passed) <= TRIP_MAX_MS


@given(troubles())
@settings(max_examples=150, deadline=None)
def test_a_node_that_is_sure_is_right(story: tuple[int, list[Trouble]]) -> None:
    """Also one whose own clock is wrong, from its first moment on."""
    nodes, troubles = story
    bad = (nodes - 1) // 2
    clock = clock_of(nodes, wrong_ms=YEARS if bad else 0)
    now, own = NOW, YEARS if bad else 0
    for trouble in troubles:
        own += trouble.jump if bad else 0
        for _ in range(4):
            now += 500
            true_ms = START + now - NOW
            for peer in range(1, nodes):
                if (0, peer) not in trouble.deaf:
                    wrong = YEARS if peer < bad else 0
                    clock.said(bytes((peer,)), now, true_ms + wrong, 0)
            clock.own(now, true_ms + own)
            if clock.sure:
                assert abs(error_ms(clock, now)) <= FAR_MS + 20
