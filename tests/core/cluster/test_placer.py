"""The placements of a node: small ones at once, large ones in steps, and none made twice."""

from __future__ import annotations

from functools import partial

import pytest
from tests.core.cluster.laws import nodes

from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.cluster.placer import KEPT, WAITING_MAX, WANTED_MAX, Placer
from everwrite.core.errors import Overloaded

Q = 64


def worked(placer: Placer) -> int:
    """Do all steps, and return how many there were."""
    steps = 0
    while placer.busy:
        placer.step()
        steps += 1
    return steps


def test_a_small_placement_is_ready_without_a_step() -> None:
    placer = Placer(Q, 3, at_once=Q * 4)

    assert placer.ready(nodes(4))
    assert not placer.ready(nodes(5))
    assert placer.place(nodes(4)) == place(nodes(4), Q, 3)


def test_a_large_placement_is_ready_after_its_steps_and_is_the_same() -> None:
    placer = Placer(Q, 3, at_once=Q * 4)
    placer.want(nodes(5))
    assert placer.busy

    assert worked(placer) > 5

    assert placer.ready(nodes(5)[::-1])  # in any order
    made = placer.place(nodes(5)[::-1])
    assert made == place(nodes(5), Q, 3)
    assert placer.place(nodes(5)) is made  # and not made again


def test_what_is_wanted_twice_is_made_once() -> None:
    once, twice = Placer(Q, 3, at_once=1), Placer(Q, 3, at_once=1)
    once.want(nodes(5))
    twice.want(nodes(5))
    twice.want(nodes(5)[::-1])

    assert worked(twice) == worked(once)


def test_who_waits_hears_once_when_a_placement_is_made() -> None:
    placer = Placer(Q, 3, at_once=1)
    heard: list[bool] = []
    placer.want(nodes(5))
    placer.tell(lambda: heard.append(placer.ready(nodes(5))))
    placer.step()
    assert placer.busy and not heard

    worked(placer)
    placer.want(nodes(4))
    worked(placer)

    assert heard == [True]


def test_only_so_many_wait_for_a_placement_and_the_next_is_told_when_to_come_again() -> None:
    placer = Placer(Q, 3, at_once=1)
    heard: list[int] = []
    placer.want(nodes(5))
    for n in range(WAITING_MAX):
        placer.tell(partial(heard.append, n))

    with pytest.raises(Overloaded) as refused:
        placer.tell(partial(heard.append, WAITING_MAX))

    assert refused.value.retry_after_ms > 0
    assert refused.value.outcome == "none"
    worked(placer)
    assert heard == list(range(WAITING_MAX))
    placer.tell(partial(heard.append, -1))
    placer.want(nodes(4))
    worked(placer)
    assert heard[-1] == -1


def test_few_are_kept_beside_that_of_now_and_few_may_wait() -> None:
    placer = Placer(Q, 3, at_once=1)
    placer.current = placer.place(nodes(3))
    many = [[*nodes(3), Candidate(bytes([n]) * 8, "z")] for n in range(1, WANTED_MAX + 3)]
    for some in many:
        placer.want(some)

    worked(placer)

    made = [some for some in many if placer.ready(some)]
    assert made == many[WANTED_MAX - KEPT : WANTED_MAX]
    assert placer.ready(nodes(3))
