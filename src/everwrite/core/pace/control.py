"""How many slices of background work a second a node can bear: the controller (Dynamo 6.5).

    latencies of requests -> p99 over two seconds, for each sort -> worst of p99 / target: *strain*
    strain under CALM     -> more, if more was asked for than was granted
    strain over 1         -> less by as much as that is over, by half at most; then measure anew
    nobody is served      -> all that is asked for

*Target* is TIMES the quiet value of the same sort (latency.py), with a floor and a cap. The
quiet value is learnt while little is granted, here and on neighbours. Where more is granted, the
node listens at each full minute: for a moment it grants little (BBR does so to learn the round
trip).

Some kinds are *hurried*: availability and durability wait for them. They have LEAST together in any
case, and so much of them counts as quiet, or they would stay at that for as long as it takes.
Nobody waits for the others. Their least is below that, and what counts as quiet is below their
least: else they would be learnt as quiet, and half as much again be aimed at.

It does not oscillate: between CALM and 1 it holds; after each cut the window begins anew, so that
one bad moment is answered once; it rises by even steps, the way TCP does, and cuts by what is
missing. Only from rest it begins fast, until the first cut. What is not used is not raised.

*Neighbours* are processes on the same machine: the one that moves data may serve nobody while the
others suffer. They tell one another their strain (neighbours.py), and the worst counts.

Source: Dynamo 6.5; Chiu & Jain 1989 (additive increase, multiplicative decrease); TCP (slow start,
validation of the window); BBR (ProbeRTT).
"""

from __future__ import annotations

from collections import deque
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
RATE_MIN = 10.0
"""Never less, so that nothing starves for ever."""
LEAST = 40.0
"""Never less for what is hurried."""
RATE_MAX = 1000.0
RISE = 5.0
"""More slices a second with each step: from the least to 300 in fourteen seconds."""
FAST = 1.25
"""Times so many with each step until the first cut: from 40 to 300 in two and a half seconds."""

QUIET_PER_S = 50.0
"""So few slices are as good as none where they are hurried."""
QUIET_UNHURRIED_PER_S = 8.0
"""And so few of the others: less than RATE_MIN, and as many as all of them get while it listens."""
LISTEN_EVERY_MS = 60_000
LISTEN_MS = (STEPS + 8) * STEP_MS
"""A whole window with little background work, and some steps more in which its quiet value moves.
"""
LISTEN_AFTER_MS = 50_000
"""Hurried work of a shorter time is not held up: listening may not make a new cluster wait."""
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
    unhurried_per_s: int = 0
    """How many of the slices were unhurried."""


class Controller:
    """One node's rate."""

    __slots__ = (
        "_bound_ms",
        "_cut_ms",
        "_cut_steps",
        "_fast",
        "_granted",
        "_hurried_ms",
        "_lately",
        "_minute",
        "_next_ms",
        "_unhurried",
        "cap_us",
        "floor_us",
        "heard_ms",
        "latencies",
        "listens_until",
        "neighbours",
        "per_s",
        "rate",
        "strain",
        "unhurried_per_s",
        "unknown",
        "why",
    )

    def __init__(self, now: int, floor_ms: int, cap_ms: int) -> None:
        self.floor_us, self.cap_us = floor_ms * 1000.0, cap_ms * 1000.0
        self.latencies = {sort: Latency() for sort in SORTS}
        self.neighbours: dict[bytes, Said] = {}
        self.rate = RATE_FIRST
        """Slices a second while somebody is served; hurried kinds have LEAST at the least."""
        self.strain = -1.0
        """The worst p99 of this node in parts of its target; -1: not known."""
        self.unknown = False
        """Whether requests are measured of whose sort the quiet value is not known."""
        self.per_s = self.unhurried_per_s = 0.0
        """Slices that were granted in the last STEPS, each second; how many of them unhurried."""
        self.why = "nobody is served"
        self.listens_until = now
        self._fast = True
        self._cut_steps = 0
        self._cut_ms = now
        self._granted = self._unhurried = 0
        self._lately: deque[tuple[int, int]] = deque(maxlen=STEPS)
        """Slices of each step, and the unhurried ones among them."""
        self._bound_ms = now
        """When more was asked for than there was."""
        self.heard_ms = now - IDLE_MS
        """When something was done for a request."""
        self._hurried_ms = now
        """Since when more hurried work is done than counts as quiet."""
        self._minute = now // LISTEN_EVERY_MS
        self._next_ms = now + STEP_MS

    # -- what happens ------------------------------------------------------------------------------

    def took(self, sort: str, us: int, now: int, times: int = 1) -> None:
        """A request was answered after so long, or so many after about as long."""
        self.latencies[sort].add(us, times)
        self.heard_ms = now

    def serving(self, now: int) -> None:
        """Something was done for a request."""
        self.heard_ms = now

    def granted(self, *, hurried: bool) -> None:
        self._granted += 1
        self._unhurried += not hurried

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

    def may(self, now: int, *, hurried: bool) -> float:
        """Return how many slices a second there are while somebody is served; 0: no more than the
        floor of each kind's share. While a quiet value is not known only hurried kinds have more.
        """
        if now < self.listens_until:
            return LEAST if hurried else 0.0
        if hurried:
            return max(self.rate, LEAST)
        return 0.0 if self.unknown else self.rate

    # -- steps -------------------------------------------------------------------------------------

    def step(self, now: int) -> int:
        """Look at what was measured, every STEP_MS, and set the rate; return how long the step was,
        0 if it is not over.
        """
        if now < self._next_ms:
            return 0
        missed = (now - self._next_ms) // STEP_MS
        self._next_ms += (missed + 1) * STEP_MS
        self._count(missed)
        quiet = self._is_quiet(now)
        for latency in self.latencies.values():
            for _ in range(min(missed, STEPS) + 1):
                latency.step()
            latency.learn(quiet=quiet)
        self.unknown = any(each.p99 >= 0 > each.quiet for each in self.latencies.values())
        self.strain = self._worst()
        self._see_whether_to_listen(now)
        if self.idle(now):
            self.why = "nobody is served"
            self._rest()
        elif now < self.listens_until:
            self.why = "it listens for what requests take by themselves"
        else:
            self._adjust(now)
        return STEP_MS * (missed + 1)

    def _count(self, missed: int) -> None:
        """Add what was granted in this step, and in those that were missed, to the last ones."""
        lately, seconds = self._lately, STEPS * STEP_MS / 1000
        lately.extend([(0, 0)] * min(missed, STEPS))
        lately.append((self._granted, self._unhurried))
        self._granted = self._unhurried = 0
        self.per_s = sum(granted for granted, _ in lately) / seconds
        self.unhurried_per_s = sum(unhurried for _, unhurried in lately) / seconds

    def _is_quiet(self, now: int) -> bool:
        """Say whether what is measured is next to free of background work."""
        return (
            len(self._lately) == STEPS
            and _as_good_as_none(self.per_s, self.unhurried_per_s)
            and all(
                _as_good_as_none(said.per_s, said.unhurried_per_s)
                for said in self.neighbours.values()
                if now - said.at < FORGET_MS
            )
        )

    def _see_whether_to_listen(self, now: int) -> None:
        """Listen at a full minute, unless there is nothing to hold, or only what has just begun.

        Processes of one machine have one monotonic clock, so they listen together: one by one each
        would hear the work of the others.
        """
        if self.per_s - self.unhurried_per_s <= QUIET_PER_S:
            self._hurried_ms = now
        minute = now // LISTEN_EVERY_MS
        if minute == self._minute:
            return
        self._minute = minute
        short = 0 < now - self._hurried_ms < LISTEN_AFTER_MS
        if not short and not _as_good_as_none(self.per_s, self.unhurried_per_s):
            self.listens_until = minute * LISTEN_EVERY_MS + LISTEN_MS

    def _worst(self) -> float:
        """Return the strain of the sort that is the farthest from its target."""
        worst = -1.0
        for sort, latency in self.latencies.items():
            if latency.p99 >= 0 and latency.quiet >= 0:
                worst = max(worst, latency.p99 / self.target_us(sort))
        return worst

    def _rest(self) -> None:
        self.rate, self._fast, self._cut_steps = RATE_FIRST, True, 0

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
            # What is hurried had LEAST, whatever the rate: so much was borne.
            borne = max(self.rate, min(LEAST, self.per_s - self.unhurried_per_s))
            self.rate = min(RATE_MAX, borne * FAST if self._fast else borne + RISE)
        else:
            self.why = "it needs no more than it may do"


def _as_good_as_none(per_s: float, unhurried_per_s: float) -> bool:
    """Say whether requests fare as without background work beside so many slices a second."""
    return per_s <= QUIET_PER_S and unhurried_per_s <= QUIET_UNHURRIED_PER_S
