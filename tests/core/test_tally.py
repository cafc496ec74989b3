"""The tally: exact below each border, whatever is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.tally import Tally, bucket_of, is_border
from everwrite.server.http.measures import HTTP_US
from everwrite.server.metrics.families import AGE_MS, REQUEST_MS, SHORT_US

NUMBERS = st.lists(st.integers(0, 1 << 40), max_size=200)
BORDERS = st.lists(
    st.builds(lambda m, k: m << k, st.integers(8, 15), st.integers(0, 36)), max_size=20
)


def tally_of(numbers: list[int]) -> Tally:
    tally = Tally()
    for number in numbers:
        tally.add(number)
    return tally


@given(NUMBERS, BORDERS)
def test_it_is_known_exactly_how_many_lie_below_a_border(
    numbers: list[int], borders: list[int]
) -> None:
    borders = sorted(borders)

    found = tally_of(numbers).below(borders)

    assert found == [sum(number < border for number in numbers) for border in borders]


@given(NUMBERS)
def test_nothing_is_lost(numbers: list[int]) -> None:
    tally = tally_of(numbers)

    assert tally.count == len(numbers)
    assert tally.total == sum(numbers)


@given(st.integers(1, 1 << 40))
def test_a_bucket_is_no_wider_than_an_eighth_of_what_is_in_it(number: int) -> None:
    assert bucket_of(number) <= bucket_of(number + 1) <= bucket_of(number) + 1
    assert bucket_of(number + 1 + number // 8) > bucket_of(number)


def test_what_cannot_be_counted_is_counted_at_the_ends() -> None:
    tally = tally_of([-5, 1 << 80])

    assert tally.count == 2
    assert tally.below([1]) == [1]


def test_all_borders_that_are_told_are_borders() -> None:
    for borders in (AGE_MS, REQUEST_MS, SHORT_US, HTTP_US):
        assert all(map(is_border, borders))
        assert list(borders) == sorted(set(borders))
    assert not is_border(17)
