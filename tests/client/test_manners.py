"""How a client behaves towards nodes that have too much to do."""

from __future__ import annotations

import random

import pytest

from everwrite.client.manners import BEYOND, BUDGET_MAX, RETRIES, Budget, Throttle, choose, spread


def test_a_budget_lets_a_tenth_more_through_in_the_long_run() -> None:
    budget, asked, again, now = Budget(0.0), 0, 0, 0.0
    for _ in range(4_000):
        now += 0.025
        asked += 100
        budget.fill(asked, now)
        again += sum(budget.take() for _ in range(100))

    assert again == pytest.approx(RETRIES * asked, rel=0.05)


def test_who_asks_little_may_always_try_again() -> None:
    budget, now = Budget(0.0), 0.0
    for asked in range(1, 200):
        now += 1.0
        budget.fill(asked, now)
        assert budget.take() and budget.take()


def test_a_budget_is_not_saved_up_for_ever() -> None:
    budget = Budget(0.0)
    budget.fill(1_000_000, 3_600.0)

    assert sum(budget.take() for _ in range(2_000)) == BUDGET_MAX


def crowd(capacity: float, offered: list[float]) -> tuple[list[float], list[float]]:
    """Offer so many requests each tenth of a second to a node that takes ``capacity`` a second and
    refuses the rest; return what it got and what it took, each second.
    """
    throttle: Throttle | None = None
    now, got, taken = 0.0, [], []
    for rate in offered:
        sent = done = 0
        for _ in range(10):
            now += 0.1
            room = int(capacity / 10)
            for _ in range(int(rate / 10)):
                if throttle is not None and random.random() < throttle.excess(now):
                    throttle.held += 1
                    continue
                sent += 1
                if room:
                    room -= 1
                    done += 1
                    if throttle is not None:
                        throttle.taken += 1
                else:
                    throttle = throttle or Throttle(now)
                    throttle.refuses(200)
            if throttle is not None and throttle.over(now):
                throttle = None
        got.append(sent)
        taken.append(done)
    return got, taken


def test_a_node_gets_little_more_than_it_takes() -> None:
    random.seed(1)
    got, taken = crowd(1_000, [10_000.0] * 10)

    assert sum(got[3:]) < (BEYOND + 0.3) * sum(taken[3:])
    assert sum(taken[3:]) > 0.9 * 7 * 1_000


def test_when_the_load_has_gone_all_is_as_before_within_some_seconds() -> None:
    random.seed(2)
    _, taken = crowd(1_000, [10_000.0] * 10 + [900.0] * 10)

    assert taken[-3:] == [900, 900, 900]


def test_a_node_that_refuses_nothing_is_not_held_back_from() -> None:
    throttle = Throttle(0.0)
    throttle.refuses(100)
    throttle.taken += 1_000

    assert throttle.excess(0.0) <= 0


def test_times_are_spread_by_half_to_both_sides() -> None:
    times = [spread(2.0) for _ in range(1_000)]

    assert 1.0 <= min(times) < 1.1
    assert 2.9 < max(times) <= 3.0


class Node:
    """A node that refuses all it is asked, or none."""

    def __init__(self, *, refuses: bool) -> None:
        self.throttle: Throttle | None = None
        if refuses:
            self.throttle = Throttle(0.0)
            self.throttle.taken, self.throttle.refused = 0.0, 1e9


def test_what_is_held_back_from_one_node_goes_to_others_and_only_then_nowhere() -> None:
    busy, busy_too, well = Node(refuses=True), Node(refuses=True), Node(refuses=False)

    assert choose([(busy,), (well,)], 0, 0.0) == 1
    assert choose([(well, busy), (busy, busy_too), (busy_too, well), (well, well)], 1, 0.0) == 3
    assert choose([(well,), (busy,)], 1, 0.0) == 0
    assert choose([(busy,), (busy_too,)], 0, 0.0) == -1
    assert busy.throttle is not None and busy_too.throttle is not None
    assert (busy.throttle.held, busy_too.throttle.held) == (4, 0)
