"""How much of a node its background work may have: DESIGN 4, Dynamo 6.5.

Every kind of background work is done in slices of a millisecond or so of the loop's time. Before
each it asks ``wait_ms``: 0 means that the slice is granted. How many there are each second says the
controller (control.py). They are shared by weight among the kinds that asked for some lately;
what one does not take the others may have, and none gets less than EACH_MIN, so nothing starves.
What the *hurried* kinds have beyond the controller's rate, for LEAST is theirs in any case, they
leave to one another only.

Each kind has a bucket of its own, and what overflows goes into one for all, or into the one of the
hurried. A bucket holds what comes in BURST_MS, since who is told to wait comes back at the next
turn of the timers, not on time.

Costs: 2 us for a question.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from everwrite.core.pace.control import Controller

Kind = Literal["hints", "moves", "repair", "trees", "scrub", "purge", "collect"]
"""Copies for owners that are back; partitions on their way; anti-entropy; trees that are made
anew; the disk that is looked through; expired versions; tombstones that may go."""

KINDS: tuple[Kind, ...] = get_args(Kind)

WEIGHTS: dict[Kind, int] = {
    "repair": 8,
    "moves": 8,
    "trees": 6,
    "hints": 2,
    "purge": 2,
    "scrub": 1,
    "collect": 1,
}
"""First what gives lost copies back, and what that needs; hints are copies too many already; last
what only looks, or only saves room."""
HURRIED: frozenset[Kind] = frozenset(("repair", "moves", "trees", "hints"))
"""Kinds that availability and durability wait for."""
EACH_MIN = 2.0
"""Slices a second for each kind, whatever its weight."""
ACTIVE_MS = 1_000
"""A kind that did not ask for so long wants nothing."""
BURST_MS = 50
WAIT_MAX_MS = 500


class Share(msgspec.Struct):
    """What one kind has, and what it got."""

    weight: int
    hurried: bool
    tokens: float = 1.0
    asked_ms: int = -ACTIVE_MS
    granted: int = 0
    """Slices since the start."""
    waited: int = 0
    """Questions that were answered with "not now"."""
    rate: float = 0.0
    """Slices a second that are its own."""
    per_s: float = 0.0
    """Slices that it got lately, each second."""
    counted: int = 0
    since_ms: int = -1
    """Since when it is told to wait; -1: the last slice was granted."""


class Pace:
    """The grants of one node."""

    __slots__ = ("_filled_ms", "_spare", "_spare_hurried", "control", "on", "shares")

    def __init__(self, now: int, *, on: bool, floor_ms: int, cap_ms: int) -> None:
        self.on = on
        """Off: everything is granted, for comparison (`everwrite serve --no-pace`)."""
        self.control = Controller(now, floor_ms, cap_ms)
        self.shares: dict[Kind, Share] = {
            kind: Share(WEIGHTS[kind], kind in HURRIED) for kind in KINDS
        }
        self._spare = self._spare_hurried = 0.0
        self._filled_ms = now

    def wait_ms(self, kind: Kind, now: int) -> int:
        """Return 0 if a slice of this kind may be done now, and count it; else when to ask again,
        in milliseconds.
        """
        share, control = self.shares[kind], self.control
        self.wake(now)
        if now - share.asked_ms >= ACTIVE_MS:
            share.since_ms = -1  # who was told to wait then has not come back
        share.asked_ms = now
        if not self.on or control.idle(now):
            return self._grant(share)
        self._fill(share, now)
        if share.tokens >= 1:
            share.tokens -= 1
            return self._grant(share)
        if self._spare >= 1:
            self._spare -= 1
            return self._grant(share)
        if share.hurried and self._spare_hurried >= 1:
            self._spare_hurried -= 1
            return self._grant(share)
        share.waited += 1
        if share.since_ms < 0:
            share.since_ms = now
        control.refused(now)
        return max(1, min(WAIT_MAX_MS, int((1 - share.tokens) * 1000 / share.rate) + 1))

    def took(self, sort: str, us: int, now: int, times: int = 1) -> None:
        """A request of a client was answered after so long: see ``control.SORTS``."""
        self.control.took(sort, us, now, times)

    def wake(self, now: int) -> None:
        """Time has passed."""
        step_ms = self.control.step(now)
        if step_ms:
            for share in self.shares.values():
                lately = (share.granted - share.counted) * 1000 / step_ms
                share.counted = share.granted
                share.per_s += (lately - share.per_s) / 2

    def rate(self, now: int) -> float:
        """Return how many slices a second all kinds together may have while somebody is served."""
        hurried = any(s.hurried and now - s.asked_ms < ACTIVE_MS for s in self.shares.values())
        return self.control.may(now, hurried=hurried)

    def report(self, now: int) -> dict[str, Any]:
        """Return who has how much, and why: for people."""
        control = self.control
        free = not self.on or control.idle(now)
        return {
            "on": self.on,
            "rate": None if free else round(self.rate(now), 1),
            "per_s": round(control.per_s, 1),
            "strain": round(control.strain, 3) if control.strain >= 0 else None,
            "why": control.why if self.on else "it is switched off",
            "requests": {
                sort: {
                    "p99_ms": _ms(latency.p99),
                    "quiet_ms": _ms(latency.quiet),
                    "target_ms": _ms(control.target_us(sort)),
                }
                for sort, latency in control.latencies.items()
            },
            "kinds": {
                kind: {
                    "weight": share.weight,
                    "per_s": round(share.per_s, 1),
                    "granted": share.granted,
                    "waited": share.waited,
                    "wants": now - share.asked_ms < ACTIVE_MS,
                }
                for kind, share in self.shares.items()
            },
        }

    def _grant(self, share: Share) -> int:
        share.granted += 1
        share.since_ms = -1
        self.control.granted(hurried=share.hurried)
        return 0

    def _fill(self, asks: Share, now: int) -> None:
        """Give each kind that wants something its part of the time that has passed."""
        passed_ms = now - self._filled_ms
        if passed_ms <= 0 and asks.rate:
            return
        self._filled_ms = now
        passed_s = min(passed_ms, ACTIVE_MS) / 1000
        active = [s for s in self.shares.values() if now - s.asked_ms < ACTIVE_MS]
        free, hurried = (self.control.may(now, hurried=each) for each in (False, True))
        weights = sum(share.weight for share in active)
        for share in active:
            most = hurried if share.hurried else free
            share.rate = max(EACH_MIN, most * share.weight / weights)
            room = max(1.0, share.rate * BURST_MS / 1000)
            share.tokens += share.rate * passed_s
            if share.tokens > room:
                over, share.tokens = share.tokens - room, room
                for_all = over * free / most if share.hurried else over
                self._spare += for_all
                self._spare_hurried += over - for_all
        self._spare = min(self._spare, max(1.0, free * BURST_MS / 1000))
        self._spare_hurried = min(self._spare_hurried, max(1.0, hurried * BURST_MS / 1000))


def _ms(us: float) -> float | None:
    return round(us / 1000, 2) if us >= 0 else None
