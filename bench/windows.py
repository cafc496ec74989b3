"""How much slower than the quiet ones a busy window of a load is."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any


def times_quiet(
    windows: Mapping[str, dict[str, Any]], busy: str, before: str, after: str
) -> tuple[float, float]:
    """Return how many times the quiet p99 a window has, for reads and for writes.

    Quiet is the mean of the quiet windows before and after it: a machine that is shared changes its
    speed by half within minutes, and one of them alone would count that for the work.
    """
    reads, writes = (
        windows[busy][what]["p99"]
        / max(mean((windows[before][what]["p99"], windows[after][what]["p99"])), 0.001)
        for what in ("read_ms", "write_ms")
    )
    return round(reads, 2), round(writes, 2)
