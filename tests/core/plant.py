"""A machine as the controller sees it: requests that come at random, and background work that
delays them.

A request takes what it takes, and waits for the slice that runs when it comes, if one does. What
runs in the way of requests makes all of them slower, the fuller the machine is the more: the mean
is ``base / (1 - load)``. Nothing here is measured; a controller must be good for any such machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from everwrite.core.pace.control import Said
from everwrite.core.pace.pace import Kind, Pace

MS = 1000


class Plant:
    """One node's loop, its requests, and kinds that always want more."""

    def __init__(
        self,
        seed: int = 1,
        *,
        per_s: int = 800,
        base_us: int = 800,
        foreground: float = 0.3,
        slice_us: int = 1000,
        kinds: Sequence[Kind] = ("moves",),
        on: bool = True,
    ) -> None:
        self.rng = random.Random(seed)
        self.per_s = per_s
        self.base_us = base_us
        self.foreground = foreground
        self.slice_us = slice_us
        self.kinds = tuple(kinds)
        self.now = 10_000
        self.pace = Pace(self.now, on=on, floor_ms=2, cap_ms=100)
        self.serves = True
        self.outside = 0.0
        """What other processes take of the machine."""
        self.took: list[int] = []
        """Latencies since they were looked at last."""
        self.granted: dict[Kind, int] = dict.fromkeys(self.kinds, 0)
        self.rates: list[float] = []
        self._ready: dict[Kind, int] = {}
        self._lately: list[int] = [0] * 100

    @property
    def slices(self) -> int:
        return sum(self.granted.values())

    def run(self, seconds: float, each: Callable[[Plant], None] = lambda plant: None) -> None:
        """Let so much time pass, a millisecond at a time."""
        for _ in range(int(seconds * MS)):
            self.now += 1
            begun = self._work()
            self._lately[self.now % 100] = begun
            if self.serves and self.rng.random() < self.per_s / MS:
                self._serve()
            if self.now % 20 == 0:
                self.pace.wake(self.now)
            if self.now % 250 == 0:
                self.rates.append(self.pace.control.rate)
                each(self)

    def _work(self) -> int:
        """Do what is granted; whoever is told to wait comes back at a turn of the timers."""
        begun = 0
        for kind in self.kinds:
            if self._ready.get(kind, 0) > self.now:
                continue
            wait_ms = self.pace.wait_ms(kind, self.now)
            if wait_ms:
                self._ready[kind] = (self.now + wait_ms + 19) // 20 * 20
            else:
                self.granted[kind] += 1
                self._ready[kind] = self.now + 1
                begun += 1
        return begun

    def _serve(self) -> None:
        busy = sum(self._lately) / 100 * self.slice_us / MS
        load = min(0.98, self.foreground + self.outside + busy)
        us = self.rng.expovariate((1 - load) / self.base_us)
        if self.rng.random() < busy:  # it comes while a slice runs
            us += self.rng.random() * self.slice_us
        self.took.append(int(us))
        self.pace.took("reads", int(us), self.now)

    def p99_us(self) -> int:
        """Return the p99 since this was asked last."""
        took, self.took = sorted(self.took), []
        return took[len(took) * 99 // 100]


def neighbour(
    strain: float, *, serves: bool = True, per_s: int = 0, unhurried_per_s: int = 0
) -> Callable[[Plant], None]:
    """Return what lets the plant hear every quarter second of a node on the same machine."""

    def says(plant: Plant) -> None:
        said = Said(plant.now, strain, per_s, serves, unhurried_per_s)
        plant.pace.control.neighbours[b"neighbor"] = said

    return says
