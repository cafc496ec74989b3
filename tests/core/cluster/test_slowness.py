"""Who is gray: compared with the others, with its own past, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.cluster.slowness import FAR_MS, Slowness
from everwrite.core.config import NodeConfig

CONFIG = NodeConfig()
ROUND_MS = CONFIG.ping_every_ms
PEERS = [bytes((number,)) * 8 for number in range(5)]
FIRST, *OTHERS = PEERS


class Judge:
    """Rounds in which each peer gives samples of its round trip, and the first one others."""

    def __init__(self) -> None:
        self.slowness = Slowness(CONFIG)
        self.now = 0
        self.first = self.slowness.pace(FIRST)

    def round(self, first: list[int], others: int = 1, kind: str = "trip") -> bool:
        """End a round; return whether the first peer is bad."""
        self.now += ROUND_MS
        for peer in OTHERS:
            self._sample(peer, others, kind)
        for ms in first:
            self._sample(FIRST, ms, kind)
        self.slowness.judge(self.now, PEERS)
        assert not any(self.slowness.paces[peer].bad for peer in OTHERS)
        return self.first.bad

    def rounds_until_bad(self, first: list[int], others: int = 1, kind: str = "trip") -> int:
        return next((n for n in range(40) if self.round(first, others, kind)), -1)

    def _sample(self, peer: bytes, ms: int, kind: str) -> None:
        pace = self.slowness.pace(peer)
        if kind == "trip":
            pace.answered(pace.asks(self.now - ms), self.now)
        else:
            getattr(pace, kind).add(ms)


@pytest.mark.parametrize("kind", ["trip", "took", "disk"])
@pytest.mark.parametrize("usual_ms", [1, 3, 10, 30])
def test_a_peer_that_gets_a_hundred_times_as_slow_is_bad_two_seconds_later(
    kind: str, usual_ms: int
) -> None:
    judge = Judge()
    for _ in range(20):
        judge.round([usual_ms], usual_ms, kind)

    assert judge.rounds_until_bad([100 * usual_ms], usual_ms, kind) == 2000 // ROUND_MS


@pytest.mark.parametrize("kind", ["trip", "took", "disk"])
def test_what_is_under_the_floor_is_left_alone_however_fast_the_others_are(kind: str) -> None:
    judge = Judge()
    judge.round([0], 0, kind)

    assert judge.rounds_until_bad([CONFIG.gray_floor_ms], 0, kind) == -1


@given(st.integers(1, 100_000), st.integers(1, 3))
def test_no_few_samples_make_a_peer_slow(ms: int, times: int) -> None:
    judge = Judge()
    for _ in range(4):
        judge.round([1])
    for _ in range(times):
        assert not judge.round([ms])

    assert judge.rounds_until_bad([1]) == -1


def test_a_peer_of_whose_answers_a_third_is_late_is_slow() -> None:
    judge = Judge()
    judge.round([1])

    assert judge.rounds_until_bad([1, 1, 1000]) > 0


def test_a_peer_of_whose_answers_a_tenth_is_late_is_not_slow() -> None:
    judge = Judge()
    judge.round([1])

    assert judge.rounds_until_bad([1] * 9 + [1000]) == -1


def test_a_peer_that_is_far_away_is_not_slow_unless_it_gets_slower() -> None:
    judge = Judge()

    assert judge.rounds_until_bad([150]) == -1
    assert judge.rounds_until_bad([1500]) > 0


def test_distance_excuses_no_more_than_there_is_on_earth() -> None:
    judge = Judge()

    assert judge.rounds_until_bad([5 * int(FAR_MS)]) > 0


def test_distance_excuses_no_slow_disk() -> None:
    judge = Judge()
    judge.round([150])

    assert judge.rounds_until_bad([150], kind="disk") > 0


def test_if_all_are_slow_nobody_is() -> None:
    judge = Judge()
    judge.round([1])

    assert judge.rounds_until_bad([1000], 1000) == -1


def test_a_ping_that_is_not_answered_tells_how_long_it_takes_at_least() -> None:
    judge = Judge()
    judge.round([1])
    judge.first.asks(judge.now)

    assert judge.rounds_until_bad([]) >= 0


def test_a_ping_that_was_lost_is_forgotten_once_a_later_one_is_answered() -> None:
    judge = Judge()
    judge.round([1])
    judge.first.asks(judge.now)
    judge.round([])
    assert judge.first.waits_ms(judge.now) == ROUND_MS

    judge.first.answered(judge.first.asks(judge.now), judge.now + 1)

    assert judge.first.waits_ms(judge.now) == 0
    assert judge.first.latest == 1


def test_an_answer_that_comes_twice_says_nothing_the_second_time() -> None:
    judge = Judge()
    rid = judge.first.asks(0)
    judge.first.answered(rid, 3)
    judge.first.answered(rid, 9000)
    judge.first.answered(0, 9000)

    assert (judge.first.latest, judge.first.trip.count) == (3, 1)


def test_of_pings_without_an_answer_a_few_are_kept() -> None:
    judge = Judge()
    for now in range(1000):
        judge.first.asks(now)

    assert judge.first.waits_ms(1000) == 8


def test_it_is_bad_no_more_once_it_answers_as_it_should() -> None:
    judge = Judge()
    judge.round([1])
    assert judge.rounds_until_bad([1000]) > 0

    assert not judge.round([1])


def test_who_was_left_out_waits_twice_as_long_after_each_relapse_up_to_a_bound() -> None:
    judge, waits = Judge(), []
    judge.round([1])
    for _ in range(8):
        judge.rounds_until_bad([1000])
        judge.slowness.marked(FIRST, judge.now)
        since = judge.now
        while not judge.slowness.may_return(FIRST, judge.now):
            judge.round([1])
        judge.slowness.pardoned(FIRST, judge.now)
        waits.append((judge.now - since) // 1000)

    for wait, hold in zip(waits, [5, 10, 20, 40, 80, 160, 160, 160], strict=True):
        assert hold <= wait <= hold + 5


def test_one_bad_moment_begins_the_wait_anew() -> None:
    judge = Judge()
    judge.round([1])
    judge.rounds_until_bad([1000])
    judge.slowness.marked(FIRST, judge.now)
    for _ in range(12):
        judge.round([1])
    assert not judge.slowness.may_return(FIRST, judge.now)
    judge.round([1000])

    rounds = 0
    while not judge.slowness.may_return(FIRST, judge.now):
        judge.round([1])
        rounds += 1
    assert rounds * ROUND_MS >= CONFIG.gray_back_ms


def test_relapses_of_long_ago_are_forgotten() -> None:
    judge = Judge()
    for _ in range(3):
        judge.slowness.marked(FIRST, judge.now)
    judge.slowness.pardoned(FIRST, judge.now)

    judge.slowness.marked(FIRST, judge.now + 5 * CONFIG.gray_back_max_ms)

    assert judge.first.relapses == 1


def test_an_old_measure_says_nothing() -> None:
    judge = Judge()
    judge.round([1], kind="took")
    for _ in range(2):
        judge.round([400], kind="took")
        for _ in range(5):
            assert not judge.round([1])
    for _ in range(10):
        judge.round([1])

    assert judge.first.took.at == -1
    assert judge.first.good
