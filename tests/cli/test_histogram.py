"""The histogram: quantiles within 1 %, whatever is counted, and merging that loses nothing."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from everwrite.cli.histogram import Histogram

MICROSECONDS = st.lists(st.integers(0, 60_000_000), min_size=1, max_size=200)


def histogram_of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(MICROSECONDS, st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_of_that_rank(
    values: list[int], share: float
) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values) - 1e-9)) - 1]

    found = histogram_of(values).quantile(share)

    assert abs(found - exact) <= 0.01 * exact


@given(MICROSECONDS, MICROSECONDS)
def test_adding_histograms_is_counting_all_values_in_one(a: list[int], b: list[int]) -> None:
    both = histogram_of(a)

    both.add(histogram_of(b))

    assert both.to_dict() == histogram_of(a + b).to_dict()
    assert both.count == len(a) + len(b)
    assert both.mean() == sum(a + b) / len(a + b)


@given(MICROSECONDS)
def test_a_histogram_survives_the_way_through_json(values: list[int]) -> None:
    histogram = histogram_of(values)

    found = Histogram.from_dict(json.loads(json.dumps(histogram.to_dict())))

    assert found.to_dict() == histogram.to_dict()
    assert found.count == histogram.count


def test_values_out_of_range_are_counted_at_the_ends() -> None:
    histogram = histogram_of([-5, 1 << 60])

    assert histogram.count == 2
    assert histogram.quantile(0.5) == 0
    assert histogram.quantile(1.0) > 1 << 31


def test_an_empty_histogram_has_zero_quantiles() -> None:
    assert Histogram().quantile(0.99) == 0
    assert Histogram().mean() == 0
