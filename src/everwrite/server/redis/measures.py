"""How long commands took, from their arrival to their answer, and what was odd about them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from everwrite.core.tally import Tally
from everwrite.server.metrics.families import (
    SHORT_US,
    US,
    Labels,
    counter,
    counters,
    gauge,
    histograms,
)

SLOW_NS = 10_000_000
"""From here on a command is told by SLOWLOG; as in Redis."""
SLOW_MAX = 128
BORDERS_US = [1 << power for power in range(1, 31)]


class Slow(NamedTuple):
    """A command that took long. What its other words were is not kept: they are clients' data."""

    number: int
    time_s: int
    took_us: int
    command: str


class RedisMeasures(Collector):
    """Those of one node. What was never asked has no line."""

    def __init__(self) -> None:
        self._took: dict[Labels, Tally] = {}
        self._advisory: dict[str, float] = {}
        self.slow: deque[Slow] = deque(maxlen=SLOW_MAX)
        """Commands that took long, the last first."""
        self._slow_number = -1
        self.connected = 0
        self.garbled = 0
        self.unknown = 0
        self.refused = 0
        self.batches = 0

    def add(self, command: str, took_ns: int, well: bool) -> None:
        """Count a command that was answered."""
        labels = command, "ok" if well else "error"
        tally = self._took.get(labels)
        if tally is None:
            tally = self._took[labels] = Tally()
        tally.add(took_ns // 1000)
        if took_ns > SLOW_NS:
            self._slow(command, took_ns // 1000)

    def _slow(self, command: str, took_us: int) -> None:
        self._slow_number += 1
        self.slow.appendleft(Slow(self._slow_number, int(time.time()), took_us, command))

    def histograms(self) -> dict[str, tuple[int, dict[int, int]]]:
        """Return of each command how often it was answered, and in under how many us (powers of
        two) how many of these were.
        """
        found: dict[str, tuple[int, dict[int, int]]] = {}
        for name in sorted({name for name, _ in self._took}):
            of = [tally for (each, _), tally in self._took.items() if each == name]
            passed = [
                sum(counts) for counts in zip(*(t.below(BORDERS_US) for t in of), strict=True)
            ]
            steps, before = {}, 0
            for border, count in zip(BORDERS_US, passed, strict=True):
                if count > before:
                    steps[border], before = count, count
            found[name] = sum(tally.count for tally in of), steps
        return found

    def advise(self, command: str) -> None:
        """Count a command that reads first and writes then, as if nobody else did."""
        self._advisory[command] = self._advisory.get(command, 0) + 1

    @property
    def commands(self) -> int:
        """How many were answered."""
        return sum(tally.count for tally in self._took.values())

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        yield histograms(
            "everwrite_redis_command_duration_seconds",
            "Redis commands, from their arrival to their answer.",
            ("command", "status"),
            self._took,
            SHORT_US,
            US,
        )
        yield counters(
            "everwrite_redis_advisory",
            "Commands that looked first and wrote then (SET NX and the like): no mutual exclusion.",
            "command",
            self._advisory,
        )
        odd = {"unknown": self.unknown, "refused": self.refused, "garbled": self.garbled}
        yield counters(
            "everwrite_redis_refusals",
            "Commands that there are not, or that are not done here; bytes that are no command.",
            "why",
            odd,
        )
        yield counter("everwrite_redis_batches", "MULTI and EXEC.", self.batches)
        yield gauge("everwrite_redis_connections", "Connections of Redis clients.", self.connected)
