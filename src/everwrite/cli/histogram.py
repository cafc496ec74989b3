"""A log-linear histogram: any number of latencies in a few thousand counters, each within 1 %.

A value is kept by its top eight bits: below 256 units every value has its own counter, above it
every octave has 128 of them. So a counter is at most 1/128 of its value wide, and its middle is at
most 0.4 % off.

Costs: 0.2 us to record; 3,328 counters (26 KB), which reach from 1 us to 71 minutes at a unit of 1
       us.
Source: HdrHistogram (Tene), with a fixed precision.
"""

from __future__ import annotations

import math
from typing import TypedDict

_SUB_BITS = 7
_SUB = 1 << _SUB_BITS
_OCTAVES = 24
_SIZE = (_OCTAVES + 2) * _SUB


class Plain(TypedDict):
    """A histogram as JSON."""

    counts: dict[str, int]
    total: int
    largest: int


class Histogram:
    """Counts of non-negative values (say, microseconds); merged by adding, read by quantile."""

    __slots__ = ("_counts", "count", "largest", "total")

    def __init__(self) -> None:
        self._counts = [0] * _SIZE
        self.count = 0
        self.total = 0
        self.largest = 0

    def record(self, value: int) -> None:
        """Count one value; negative ones (a clock set back) as 0, huge ones in the last counter."""
        self.largest = max(self.largest, value)
        shift = value.bit_length() - _SUB_BITS - 1
        index = value if shift <= 0 else (shift << _SUB_BITS) + (value >> shift)
        self._counts[0 if value < 0 else index if index < _SIZE else _SIZE - 1] += 1
        self.count += 1
        self.total += value

    def quantile(self, share: float) -> float:
        """Return the value that ``share`` (0 to 1) of all do not exceed; 0 if there are none."""
        rank = max(1, math.ceil(share * self.count - 1e-9))
        passed = 0
        for index, number in enumerate(self._counts):
            passed += number
            if number and passed >= rank:
                return min(_middle(index), float(self.largest))
        return 0.0

    def mean(self) -> float:
        """Return the exact mean; 0 if nothing was recorded."""
        return self.total / self.count if self.count else 0.0

    def in_milliseconds(self) -> dict[str, float]:
        """Return p50, p99, p99.9 and the largest of values in microseconds."""
        marks = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
        return {name: round(self.quantile(share) / 1000, 3) for name, share in marks.items()}

    def add(self, other: Histogram) -> None:
        """Count all that the other has counted."""
        self._counts = [
            mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)
        ]
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def to_dict(self) -> Plain:
        """Return it as plain JSON: only the counters in use."""
        counts = {str(index): number for index, number in enumerate(self._counts) if number}
        return {"counts": counts, "total": self.total, "largest": self.largest}

    @classmethod
    def from_dict(cls, plain: Plain) -> Histogram:
        """Return the histogram that ``to_dict`` made this of."""
        histogram = cls()
        for index, number in plain["counts"].items():
            histogram._counts[int(index)] = number
        histogram.count = sum(plain["counts"].values())
        histogram.total, histogram.largest = plain["total"], plain["largest"]
        return histogram


def _middle(index: int) -> float:
    if index < 2 * _SUB:
        return float(index)
    shift = (index >> _SUB_BITS) - 1
    low = ((index & (_SUB - 1)) + _SUB) << shift
    return low + ((1 << shift) - 1) / 2
