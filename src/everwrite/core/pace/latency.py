"""How long requests take: the p99 over a sliding window, and what it is when the node is quiet.

Latencies are counted in buckets an eighth of an octave wide, a dictionary for each step of time. A
window is as many of the last steps as it takes to say something: half a second under load, up to
two seconds otherwise. The *quiet value* is the p99 while next to no background work was
done. It follows what is measured then, up and down. While much is done it only goes down: that
requests would be faster without can then be seen, that they would be slower not.

Costs: 0.4 us for each latency; 30 us for each step.
"""

from __future__ import annotations

from collections import deque

STEPS = 8
STEPS_MIN = 2
"""Steps in a window, of a quarter of a second."""
SAMPLES = 300
"""Of so many three are slower than the p99, which says it to a sixth or so: older steps are not
needed."""
SAMPLES_MIN = 30
"""So few say nothing of a p99, unless there were no more in the longest window."""
FOLLOW = 16
"""The quiet value moves by a sixteenth of the gap with each step: four seconds for two thirds."""
_FINE_BITS = 3
_FINE = 1 << _FINE_BITS


class Latency:
    """The latencies of one sort of request at one node, in microseconds."""

    __slots__ = ("_now", "_steps", "count", "p99", "quiet")

    def __init__(self) -> None:
        self._now: dict[int, int] = {}
        self._steps: deque[dict[int, int]] = deque(maxlen=STEPS)
        self.count = 0
        """How many there are in the window."""
        self.p99 = -1.0
        """Over the window; -1: too few were measured to say."""
        self.quiet = -1.0
        """What it is without background work; -1: not known yet."""

    def add(self, us: int, times: int = 1) -> None:
        """Take note of a latency, or of so many of about the same."""
        if us < _FINE:
            at = us if us > 0 else 0
        else:
            shift = us.bit_length() - _FINE_BITS - 1
            at = (shift << _FINE_BITS) + (us >> shift)
        now = self._now
        now[at] = now.get(at, 0) + times

    def step(self) -> None:
        """A step of time has passed."""
        self._steps.appendleft(self._now)
        self._now = {}
        counts: dict[int, int] = {}
        self.count = 0
        for age, step in enumerate(self._steps):
            if age >= STEPS_MIN and self.count >= SAMPLES:
                break
            for at, count in step.items():
                counts[at] = counts.get(at, 0) + count
            self.count += sum(step.values())
        enough = self.count >= SAMPLES_MIN or (self.count and len(self._steps) == STEPS)
        self.p99 = _quantile(counts, self.count, 0.99) if enough else -1.0

    def restart(self) -> None:
        """Begin the window anew: what was measured so far says nothing of what is to come."""
        self._steps.clear()
        self._now = {}
        self.count, self.p99 = 0, -1.0

    def learn(self, *, quiet: bool) -> None:
        """Let the quiet value follow the p99: both ways, or only down."""
        if self.p99 < 0:
            return
        if self.quiet < 0:
            if quiet:
                self.quiet = self.p99
        elif quiet or self.p99 < self.quiet:
            self.quiet += (self.p99 - self.quiet) / FOLLOW


def _quantile(counts: dict[int, int], count: int, share: float) -> float:
    """Return the latency that so large a share of them does not exceed."""
    rest = share * count
    for at in sorted(counts):
        here = counts[at]
        if rest <= here:
            low, high = _edge(at), _edge(at + 1)
            return low + (high - low) * rest / here
        rest -= here
    return -1.0


def _edge(at: int) -> int:
    """Return the least latency of a bucket."""
    if at < 2 * _FINE:
        return at
    shift = (at >> _FINE_BITS) - 1
    return (at - (shift << _FINE_BITS)) << shift
