"""How many slices of background work a second a node can bear: the controller (Dynamo 6.5).

    latencies of requests -> p99 over two seconds, for each sort -> worst of p99 / target: *strain*
    strain under CALM     -> more, if more was asked for than was granted
    strain over 1         -> less by as much as that is over, by half at most; then measure anew
    nobody is served      -> all that is asked for

*Target* is TIMES the quiet value of the same sort (latency.py), with a floor and a cap. The
quiet value is learnt while little is granted, here and on neighbours. Where much is granted for
long, the node listens from time to time: for a moment it grants little (BBR does so to learn the
round trip).

It does not oscillate: between CALM and 1 it holds; after each cut the window begins anew, so that
one bad moment is answered once; it rises by even steps, the way TCP does, and cuts by what is
missing. Only from rest it begins fast, until the first cut. What is not used is not raised.

*Neighbours* are processes on the same machine: the one that moves data may serve nobody while the
others suffer. They tell one another their strain (neighbours.py), and the worst counts.

Source: Dynamo 6.5; Chiu & Jain 1989 (additive increase, multiplicative decrease); TCP (slow start,
validation of the window); BBR (ProbeRTT).
"""

from __future__ import annotations

from typing import NamedTuple

from everwrite.core.pace.latency import STEPS, Latency

STEP_MS = 250
TIMES = 1.5
"""The p99 of requests beside background work that is aimed at, to that without; twice is promised.
"""
CALM = 0.85
CUT_MIN, CUT_MAX = 0.5, 0.9
AFTER_CUT_STEPS = 2
"""After a cut it takes so long until what was begun before is over and something is measured."""

RATE_FIRST = 40.0
"""Slices a second where nothing is known yet: four in a hundred of a core."""
RATE_MIN = 40.0
"""Never less, so that nothing starves for ever."""
RATE_MAX = 1000.0
RISE = 5.0
"""More slices a second with each step: from the least to 300 in fourteen seconds."""
FAST = 1.25
"""Times so many with each step until the first cut: from 40 to 300 in two and a half seconds."""

QUIET_PER_S = 50.0
"""So few slices are as good as none."""
LISTEN_EVERY_MS = 60_000
LISTEN_MS = (STEPS + 4) * STEP_MS
"""A whole window without background work, and some steps more in which its quiet value moves."""
IDLE_MS = 1_000
"""After so long without a request nobody is served here."""
FORGET_MS = 2_000
"""What a neighbour said counts for so long."""
REST_MS = 10_000
"""If for so long no more was asked for than was granted, it begins from rest again."""

SORTS = ("reads", "gets", "puts")
"""What is measured: answers to reads of clients and of coordinators, as long as they are with this
process; coordinated gets and coordinated puts, from the request to its answer."""


class Said(NamedTuple):
    """What a neighbour said last."""

    at: int
    strain: float
    per_s: int
    """Slices that it granted lately."""
    serves: bool
    """Whether it serves requests."""


class Controller:
    """One node's rate."""

    __slots__ = (
        "_bound_ms",
        "_cut_ms",
        "_cut_steps",
        "_fast",
        "_granted",
        "_listen_ms",
        "_next_ms",
        "_quiet_steps",
        "cap_us",
        "floor_us",
        "heard_ms",
        "latencies",
        "listens_until",
        "neighbours",
        "per_s",
        "rate",
        "strain",
        "why",
    )

    def __init__(self, now: int, floor_ms: int, cap_ms: int) -> None:
        self.floor_us, self.cap_us = floor_ms * 1000.0, cap_ms * 1000.0
        self.latencies = {sort: Latency() for sort in SORTS}
        self.neighbours: dict[bytes, Said] = {}
        self.rate = RATE_FIRST
        """Slices that may be granted each second while somebody is served."""
        self.strain = -1.0
        """The worst p99 of this node in parts of its target; -1: not known."""
        self.per_s = 0.0
        """Slices that were granted lately, each second."""
        self.why = "nobody is served"
        self.listens_until = now
        self._fast = True
        self._cut_steps = self._quiet_steps = 0
        self._cut_ms = now
        self._granted = 0
        self._bound_ms = now
        """When more was asked for than there was."""
        self.heard_ms = now - IDLE_MS
        """When something was done for a request."""
        self._listen_ms = now + LISTEN_EVERY_MS
        self._next_ms = now + STEP_MS

    # -- what happens ------------------------------------------------------------------------------

    def took(self, sort: str, us: int, now: int, times: int = 1) -> None:
        """A request was answered after so long, or so many after about as long."""
        self.latencies[sort].add(us, times)
        self.heard_ms = now

    def serving(self, now: int) -> None:
        """Something was done for a request."""
        self.heard_ms = now

    def granted(self) -> None:
        self._granted += 1

    def refused(self, now: int) -> None:
        """More was asked for than there is."""
        self._bound_ms = now

    def idle(self, now: int) -> bool:
        """Say whether nobody is served, here and on neighbours."""
        if now - self.heard_ms < IDLE_MS:
            return False
        return not any(
            said.serves and now - said.at < FORGET_MS for said in self.neighbours.values()
        )

    def serves(self, now: int) -> bool:
        """Say whether something was done for a request lately."""
        return now - self.heard_ms < IDLE_MS

    def target_us(self, sort: str) -> float:
        """Return the p99 that requests of a sort may have; the cap while nothing is known."""
        quiet = self.latencies[sort].quiet
        if quiet < 0:
            return self.cap_us
        return min(max(TIMES * quiet, self.floor_us), self.cap_us)

    # -- steps -------------------------------------------------------------------------------------

    def step(self, now: int) -> int:
        """Look at what was measured, every STEP_MS, and set the rate; return how long the step was,
        0 if it is not over.
        """
        if now < self._next_ms:
            return 0
        missed = (now - self._next_ms) // STEP_MS
        self._next_ms += (missed + 1) * STEP_MS
        self.per_s += (self._granted * 1000 / (STEP_MS * (missed + 1)) - self.per_s) / 2
        self._granted = 0
        self._quiet_steps = self._quiet_steps + 1 if self._is_quiet(now) else 0
        for latency in self.latencies.values():
            for _ in range(min(missed, STEPS) + 1):
                latency.step()
            latency.learn(quiet=self._quiet_steps >= STEPS)
        self.strain = self._worst()
        if self.idle(now):
            self.why = "nobody is served"
            self._rest()
        elif now < self.listens_until:
            self.why = "it listens for what requests take by themselves"
        else:
            self._adjust(now)
        return STEP_MS * (missed + 1)

    def _is_quiet(self, now: int) -> bool:
        """Say whether what is measured is next to free of background work."""
        return self.per_s <= QUIET_PER_S and all(
            said.per_s <= QUIET_PER_S
            for said in self.neighbours.values()
            if now - said.at < FORGET_MS
        )

    def _worst(self) -> float:
        """Return the strain of the sort that is the farthest from its target."""
        worst = -1.0
        for sort, latency in self.latencies.items():
            if latency.p99 >= 0 and latency.quiet >= 0:
                worst = max(worst, latency.p99 / self.target_us(sort))
        return worst

    def _rest(self) -> None:
        self.rate, self._fast, self._cut_steps = min(self.rate, RATE_FIRST), True, 0

    def _adjust(self, now: int) -> None:
        strain, whose = self.strain, "here"
        for said in self.neighbours.values():
            fresh = now - said.at < FORGET_MS and said.at > self._cut_ms + AFTER_CUT_STEPS * STEP_MS
            if fresh and said.strain > strain:
                strain, whose = said.strain, "on a neighbour"
        if self._cut_steps:
            self._cut_steps -= 1
            return
        if now - self._bound_ms > REST_MS:
            self.why = "it needs no more than it may do"
            self._rest()
        elif strain < 0:
            self.why = "too little was measured to say"
        elif strain > 1:
            self.why = f"p99 {whose} is at {strain:.0%} of what it may be: less"
            self.rate = max(RATE_MIN, self.rate * max(CUT_MIN, min(CUT_MAX, 1 / strain)))
            self._fast = False
            self._cut_steps, self._cut_ms = AFTER_CUT_STEPS, now
            for latency in self.latencies.values():
                latency.restart()
        elif strain > CALM:
            self.why = f"p99 {whose} is at {strain:.0%} of what it may be: as it is"
            self._fast = False
        elif now - self._bound_ms <= 2 * STEP_MS:
            self.why = f"p99 {whose} is at {strain:.0%} of what it may be: more"
            self.rate = self.rate * FAST if self._fast else self.rate + RISE
            self.rate = min(RATE_MAX, self.rate)
        else:
            self.why = "it needs no more than it may do"
        if self.per_s <= QUIET_PER_S:
            self._listen_ms = now + LISTEN_EVERY_MS
        elif now >= self._listen_ms:
            self._listen_ms = now + LISTEN_EVERY_MS
            self.listens_until = now + LISTEN_MS
