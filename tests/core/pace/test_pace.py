"""The controller of background work, against a machine that is made up (plant.py)."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.plant import Plant, neighbour

from everwrite.core.pace.control import LEAST, RATE_FIRST, Said
from everwrite.core.pace.latency import Latency
from everwrite.core.pace.pace import EACH_MIN, KINDS, WEIGHTS, Pace


def quiet_first(plant: Plant, seconds: float = 20.0) -> int:
    """Let a plant run without background work; return the p99."""
    kinds, plant.kinds = plant.kinds, ()
    plant.run(seconds)
    plant.kinds = kinds
    return plant.p99_us()


# -- what is measured ------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10_000_000), min_size=40, max_size=400))
def test_the_p99_is_right_to_an_eighth(latencies: list[int]) -> None:
    window = Latency()
    for us in latencies:
        window.add(us)

    window.step()

    exact = sorted(latencies)[-(-99 * len(latencies) // 100) - 1]
    assert exact * 7 / 8 - 1 <= window.p99 <= exact * 9 / 8 + 1


def test_a_few_latencies_say_nothing_until_there_was_time_for_more() -> None:
    window = Latency()
    window.add(900, 20)
    window.step()
    assert window.p99 == -1

    for _ in range(7):
        window.step()

    assert window.p99 == pytest.approx(900, rel=1 / 8)


def test_under_load_what_was_a_second_ago_is_forgotten() -> None:
    window = Latency()
    for us in (50_000, 1_000, 1_000):
        window.add(us, 1_000)
        window.step()

    assert window.p99 == pytest.approx(1_000, rel=1 / 8)


def test_the_quiet_value_rises_only_while_it_is_quiet_and_falls_always() -> None:
    window = Latency()

    def steps(us: int, quiet: bool) -> float:
        for _ in range(100):
            window.add(us, 500)
            window.step()
            window.learn(quiet=quiet)
        return window.quiet

    assert steps(2_000, True) == pytest.approx(2_000, rel=1 / 8)
    assert steps(9_000, False) == pytest.approx(2_000, rel=1 / 8)
    assert steps(1_000, False) == pytest.approx(1_000, rel=1 / 8)
    assert steps(9_000, True) == pytest.approx(9_000, rel=1 / 8)


# -- the controller --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_requests_stay_under_twice_their_quiet_p99(seed: int) -> None:
    plant = Plant(seed)
    quiet = quiet_first(plant)

    plant.run(60)

    assert plant.p99_us() < 2 * quiet
    assert plant.slices / 60 > 4 * LEAST  # and the work gets on


def test_without_the_controller_they_do_not() -> None:
    plant = Plant(on=False)
    quiet = quiet_first(plant)

    plant.run(10)

    assert plant.p99_us() > 5 * quiet


@pytest.mark.parametrize(("foreground", "slice_us"), [(0.1, 500), (0.3, 1000), (0.6, 1000)])
def test_it_settles_and_does_not_swing(foreground: float, slice_us: int) -> None:
    plant = Plant(foreground=foreground, slice_us=slice_us)
    quiet_first(plant)
    plant.run(20)
    plant.rates.clear()

    plant.run(90)

    held = [rate for rate in plant.rates if rate > LEAST]  # but for when it listens
    assert statistics.stdev(held) < 0.35 * statistics.mean(held)
    swings = sum(b < 0.6 * a for a, b in zip(plant.rates, plant.rates[1:], strict=False))
    assert swings <= 3


def test_a_load_that_comes_is_given_way_to_within_seconds() -> None:
    plant = Plant(foreground=0.1)
    quiet_first(plant)
    plant.run(20)
    before = plant.pace.control.rate

    plant.outside = 0.5
    plant.run(5)

    assert plant.pace.control.rate < before / 3


def test_a_load_that_stays_is_the_new_quiet_in_the_end() -> None:
    """Else background work would starve for as long as requests take longer than they once did."""
    plant = Plant(foreground=0.1)
    quiet_first(plant)
    plant.run(10)
    plant.foreground = 0.5

    plant.run(120)
    plant.rates.clear()
    plant.run(30)

    assert statistics.mean(plant.rates) > 2 * LEAST


def test_a_load_that_goes_is_noticed_by_listening() -> None:
    plant = Plant(foreground=0.6)
    busy = quiet_first(plant)
    plant.run(10)
    plant.foreground = 0.1

    plant.run(180)

    assert plant.pace.control.latencies["reads"].quiet < 0.7 * busy


def test_nothing_starves_however_strained_the_node_is() -> None:
    plant = Plant(kinds=KINDS)
    quiet_first(plant)
    plant.outside = 0.65

    plant.run(10, neighbour(9.0))
    before = dict(plant.granted)
    plant.run(30, neighbour(9.0))

    for kind in KINDS:
        assert plant.granted[kind] - before[kind] >= 0.6 * EACH_MIN * 30


def test_an_idle_node_does_all_that_is_asked() -> None:
    plant = Plant()
    plant.serves = False

    plant.run(3)

    assert plant.slices == 3_000


def test_the_first_requests_after_a_rest_meet_little_work() -> None:
    plant = Plant()
    plant.serves = False
    plant.run(30)
    plant.serves = True
    plant.run(0.1)
    before = plant.slices

    plant.run(1)

    assert plant.slices - before < 100


def test_a_node_that_serves_nobody_gives_way_to_its_neighbours_requests() -> None:
    free, held = Plant(), Plant()
    free.serves = held.serves = False

    for plant, strain in ((free, 0.3), (held, 1.6)):
        plant.run(1, neighbour(strain))
        plant.granted["moves"] = 0
        plant.run(20, neighbour(strain))

    assert held.slices <= (LEAST + 2) * 20
    assert free.slices > 5 * held.slices


def test_what_a_neighbour_said_long_ago_holds_nobody_up() -> None:
    plant = Plant()
    plant.serves = False
    plant.pace.control.neighbours[b"neighbor"] = Said(plant.now, 5.0, 0, True)

    plant.run(5)

    assert plant.slices > 2_500


def test_a_rate_that_is_not_used_does_not_rise() -> None:
    plant = Plant()
    quiet_first(plant, 60)

    assert plant.pace.control.rate <= RATE_FIRST


# -- shares ----------------------------------------------------------------------------------------


def test_kinds_share_by_weight() -> None:
    plant = Plant(kinds=("repair", "moves", "scrub"))
    quiet_first(plant)

    plant.run(60)

    granted = plant.granted
    assert granted["repair"] == pytest.approx(granted["moves"], rel=0.15)
    assert granted["repair"] > 4 * granted["scrub"]


def test_a_kind_alone_has_everything() -> None:
    alone, shared = Plant(kinds=("scrub",)), Plant(kinds=("repair", "scrub"))
    for plant in (alone, shared):
        quiet_first(plant)
        plant.run(30)

    assert alone.slices == pytest.approx(shared.slices, rel=0.35)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 300)), min_size=1, max_size=300))
def test_no_order_of_questions_gets_more_than_there_is(asks: list[tuple[str, int]]) -> None:
    pace, now = Pace(0, on=True, floor_ms=2, cap_ms=100), 0
    pace.control.serving(0)
    granted = 0
    for kind, gap_ms in asks:
        now += gap_ms
        pace.control.serving(now)
        wait_ms = pace.wait_ms(kind, now)  # type: ignore[arg-type]
        assert 0 <= wait_ms <= 500
        granted += not wait_ms

    kinds = {kind for kind, _ in asks}
    most = pace.rate(now) + len(kinds) * EACH_MIN
    assert granted <= most * now / 1000 + 2 * len(kinds) + 0.05 * most + 1


def test_every_kind_has_a_weight() -> None:
    assert set(WEIGHTS) == set(KINDS)
    assert WEIGHTS["repair"] > WEIGHTS["hints"] > WEIGHTS["scrub"]
