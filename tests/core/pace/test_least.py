"""The least that each kind of background work has, and what is learnt beside it (plant.py)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.plant import Plant, neighbour

from everwrite.core.pace import control
from everwrite.core.pace.control import LEAST, LISTEN_MS, QUIET_UNHURRIED_PER_S, RATE_MIN
from everwrite.core.pace.pace import EACH_MIN, HURRIED, KINDS, WEIGHTS, Kind

PROBES = 1.15
"""After each cut the rate rises for a step, until the strain is heard of again."""
UNHURRIED: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in HURRIED)
SLOW_US = 6_000
"""A slice on a machine on which LEAST of them a second are too much."""
MINUTE_MS = control.LISTEN_EVERY_MS


def quiet_first(plant: Plant, seconds: float = 20.0) -> int:
    """Let a plant run without background work; return the p99."""
    kinds, plant.kinds = plant.kinds, ()
    plant.run(seconds)
    plant.kinds = kinds
    return plant.p99_us()


def quiet_us(plant: Plant) -> float:
    """Return what a plant has learnt."""
    return plant.pace.control.latencies["reads"].quiet


def strained(kinds: Sequence[Kind], seconds: float = 10.0) -> dict[Kind, float]:
    """Return how many slices a second each kind gets that always wants more, while requests suffer
    from something that does not go away.
    """
    plant = Plant(kinds=kinds)
    plant.run(6, neighbour(9.0))
    plant.granted = dict.fromkeys(kinds, 0)
    plant.run(seconds, neighbour(9.0))
    return {kind: granted / seconds for kind, granted in plant.granted.items()}


# -- the least -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_alone_has_its_least_and_no_more_while_requests_suffer(kind: Kind) -> None:
    least = LEAST if kind in HURRIED else RATE_MIN

    per_s = strained([kind])[kind]

    assert 0.95 * least <= per_s <= PROBES * least


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from(KINDS), min_size=1, unique=True))
def test_each_kind_has_its_part_of_its_least_whoever_else_wants_some(kinds: list[Kind]) -> None:
    per_s = strained(kinds)

    weights = sum(WEIGHTS[kind] for kind in kinds)
    for kind in kinds:
        part = (LEAST if kind in HURRIED else RATE_MIN) * WEIGHTS[kind] / weights
        # Who comes back late leaves something to another kind.
        assert per_s[kind] >= 0.75 * max(EACH_MIN, part)
    hurried = [kind for kind in kinds if kind in HURRIED]
    unhurried = [kind for kind in kinds if kind not in HURRIED]
    assert (
        sum(per_s[kind] for kind in hurried)
        >= 0.95 * LEAST * sum(WEIGHTS[kind] for kind in hurried) / weights
    )
    assert sum(per_s[kind] for kind in unhurried) <= PROBES * RATE_MIN


def test_what_hurried_work_leaves_of_its_least_goes_to_hurried_work() -> None:
    def beside_a_little_repair(kind: Kind) -> float:
        plant = Plant(kinds=(kind,))

        def says(plant: Plant) -> None:
            neighbour(9.0)(plant)
            plant.pace.wait_ms("repair", plant.now)  # four times a second: so it is never at rest

        plant.run(6, says)
        plant.granted = {kind: 0}
        plant.run(10, says)
        return plant.granted[kind] / 10

    assert beside_a_little_repair("moves") > 0.8 * LEAST
    assert beside_a_little_repair("purge") <= PROBES * RATE_MIN


def test_what_is_hurried_rises_from_its_least() -> None:
    """Not by way of all the rates below it, which it never had."""
    plant = Plant(kinds=("moves",))
    quiet_first(plant)
    plant.run(5, neighbour(9.0))
    plant.rates.clear()

    plant.run(10, neighbour(9.0))

    rises = [b for a, b in zip(plant.rates, plant.rates[1:], strict=False) if a < LEAST and b > a]
    assert rises
    assert min(rises) > LEAST


# -- what is learnt --------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "kinds"), [(1, ("purge",)), (2, ("purge",)), (3, UNHURRIED)])
def test_what_nobody_waits_for_does_not_double_the_p99_of_a_slow_machine(
    seed: int, kinds: tuple[Kind, ...]
) -> None:
    plant = Plant(seed, slice_us=SLOW_US, kinds=kinds)
    quiet = quiet_first(plant)
    known = quiet_us(plant)

    plant.run(180)

    assert plant.p99_us() <= 1.8 * quiet
    assert quiet_us(plant) < 1.35 * known
    assert plant.slices / 180 > 1.5 * RATE_MIN  # and the work gets on


def test_learnt_as_quiet_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that was: the least counted as quiet."""
    monkeypatch.setattr(control, "RATE_MIN", LEAST)
    monkeypatch.setattr(control, "QUIET_UNHURRIED_PER_S", control.QUIET_PER_S)
    plant = Plant(slice_us=SLOW_US, kinds=("purge",))
    quiet = quiet_first(plant)

    plant.run(180)

    assert plant.p99_us() > 2.2 * quiet


def test_a_load_that_stays_is_learnt_beside_a_purge_that_does_not_end() -> None:
    plant = Plant(foreground=0.1, kinds=("purge",))
    quiet_first(plant)
    plant.foreground = 0.5
    busy = quiet_first(Plant(foreground=0.5))

    plant.run(240)

    assert quiet_us(plant) > 0.75 * busy


def test_a_neighbours_purge_is_not_learnt_as_quiet_either() -> None:
    plant, work = Plant(kinds=()), neighbour(0.5, per_s=20, unhurried_per_s=20)
    plant.run(20, work)
    assert quiet_us(plant) < 0

    plant.run(20, neighbour(0.5, per_s=20))  # as moves

    assert quiet_us(plant) > 0


# -- listening -------------------------------------------------------------------------------------


def test_while_it_listens_all_unhurried_kinds_together_are_as_good_as_none() -> None:
    plant = Plant(kinds=UNHURRIED)
    quiet_first(plant)
    granted = []

    def look(plant: Plant) -> None:
        listens = plant.pace.control.listens_until
        if listens - LISTEN_MS + 2_250 <= plant.now < listens:
            granted.append(plant.pace.control.unhurried_per_s)

    plant.run(120, look)

    assert len(granted) >= 10
    assert max(granted) <= QUIET_UNHURRIED_PER_S < RATE_MIN


def test_nodes_that_share_a_clock_listen_at_the_same_time() -> None:
    heard = []
    for late in (0, 20):
        plant = Plant(kinds=("purge",))
        quiet_first(plant, 20 + late)
        plant.run(100 - late)
        heard.append(plant.pace.control.listens_until)

    assert heard[0] == heard[1]
    assert heard[0] % MINUTE_MS == LISTEN_MS


def test_moves_of_less_than_a_minute_are_not_held_up_to_listen() -> None:
    """A new cluster waits for them."""
    plant = Plant(kinds=("moves",))
    quiet_first(plant, (MINUTE_MS - 15_000 - plant.now) / 1000)

    plant.run(60)

    assert plant.now > MINUTE_MS
    assert plant.pace.control.listens_until < MINUTE_MS
    plant.run(30)
    assert plant.pace.control.listens_until == 2 * MINUTE_MS + LISTEN_MS  # but longer ones are


@pytest.mark.parametrize("slice_us", [1_000, SLOW_US])
def test_moves_of_a_node_that_has_just_begun_soon_have_more_than_their_least(slice_us: int) -> None:
    """Were the least of them not taken for quiet, they would have no more for a minute."""
    plant = Plant(kinds=("moves",), slice_us=slice_us)

    plant.run(30)

    assert plant.slices > 1.3 * 30 * LEAST


def test_until_the_quiet_is_known_only_hurried_work_has_more_than_its_floor() -> None:
    moves, purge = Plant(kinds=("moves",)), Plant(kinds=("purge",))
    for plant in (moves, purge):
        plant.run(2)

    assert purge.slices < 20
    assert moves.slices > 0.8 * 2 * LEAST
    for plant in (moves, purge):
        plant.run(1)
        assert quiet_us(plant) > 0  # so it is not for long
