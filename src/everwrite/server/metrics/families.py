"""How a family of metrics is written down: a name, a sentence, and what was counted.

Histograms come from tallies (core/tally.py), which know exactly how many numbers lie below the
borders that are told; so all borders are m * 2^k units, and a bucket's ``le`` is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from everwrite.core.tally import Tally

MS = 1_000
US = 1_000_000
"""Units in a second."""

REQUEST_MS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096)
"""Whole milliseconds: 0 is under 1 ms. Fine where the paper's 99.9th percentiles lie."""
AGE_MS = tuple(1 << power for power in range(0, 30, 2))
"""From a millisecond to three days."""
SHORT_US = tuple(1 << power for power in range(6, 24))
"""From 64 us to 8 s."""
SIBLINGS = (0, 1, 2, 3, 4, 8, 16, 32)

Labels = tuple[str, ...]


def counter(name: str, what: str, value: float) -> Metric:
    """Return what only grows; its sample is named with ``_total``."""
    return CounterMetricFamily(name, what, value=value)


def counters(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return several of one family, told apart by a label."""
    family = CounterMetricFamily(name, what, labels=[label])
    for said, value in values.items():
        family.add_metric([said], value)
    return family


def gauge(name: str, what: str, value: float) -> Metric:
    """Return what goes up and down."""
    return GaugeMetricFamily(name, what, value=value)


def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return several of one family, told apart by a label."""
    family = GaugeMetricFamily(name, what, labels=[label])
    for said, value in values.items():
        family.add_metric([said], value)
    return family


def histogram(name: str, what: str, tally: Tally, borders: Sequence[int], unit: int) -> Metric:
    """Return how a tally's numbers are spread, in seconds."""
    return histograms(name, what, (), {(): tally}, borders, unit)


def histograms(
    name: str,
    what: str,
    labels: Labels,
    tallies: Mapping[Labels, Tally],
    borders: Sequence[int],
    unit: int,
) -> Metric:
    """Return several of one family, told apart by labels."""
    family = HistogramMetricFamily(name, what, labels=labels)
    ends = [repr(border / unit) for border in borders]
    for said, tally in tallies.items():
        below = tally.below(borders)
        buckets = [*zip(ends, below, strict=True), ("+Inf", tally.count)]
        family.add_metric(said, buckets, sum_value=tally.total / unit)
    return family


def sizes(name: str, what: str, counts: Sequence[int]) -> Metric:
    """Return how often each small number was met; ``counts`` has one entry for each."""
    family = HistogramMetricFamily(name, what)
    buckets: list[tuple[str, float]] = [
        (str(float(border)), sum(counts[: border + 1])) for border in SIBLINGS
    ]
    total = sum(number * count for number, count in enumerate(counts))
    family.add_metric([], [*buckets, ("+Inf", sum(counts))], sum_value=total)
    return family
