"""The time of day, as a cluster agrees on it: for what ends, and for people.

How old a message is is not told by it: that goes by each sender's own count (``Local.stamp``).

Every node tells its peers in its pongs what its machine's wall clock says. A node goes by its own
monotonic clock, and moves what it adds to that only where a majority of all members says so:

    time_ms = monotonic clock + offset
    offset rises   to what a majority of the members says is reached, or passed
    offset falls   to what a majority says is not passed yet

One of any majority is right as long as fewer than half are wrong. So a minority of wrong clocks
moves nobody, however wrong and wherever it is, nor does a jump of the own one; and who hears too
few goes on by its monotonic clock. With all members heard, and an odd number of them, that is the
median.

The offset follows slowly (SLEW_PER_MILLE). Only a node that is far behind goes forward at once: its
monotonic clock stood still while its machine slept. A node that is the only member has nobody to
tell that from a jump of its own clock, and follows slowly. Once it is known, time never runs
backwards.

At its start a node has nothing but its own clock, which may be wrong by years. It knows the time
once a majority agrees with it, and from then on, whomever it hears. Until then it gives nothing an
end, and does not say what has ended.

A pong says what was true when it was sent. One whose round trip took long lay around somewhere, in
a cable, or before a process that did not run, and is not believed.

Milliseconds since 1970. Costs: a look is one addition; n numbers are sorted each FOLLOW_MS.
Source: Marzullo and Owicki 1983 (what a majority of clocks has in common).
"""

from __future__ import annotations

from everwrite.core.probes import sometimes

SLEW_PER_MILLE = 100
"""How fast an offset follows: 100 ms each second, twice what the worst of machines drifts."""

FOLLOW_MS = 100

TRIP_MAX_MS = 200
"""A pong that took longer says nothing: half of this is the most that one can be wrong by."""

FORGET_MS = 60_000
"""A peer that said nothing for so long is not asked for its opinion any more."""

FAR_MS = 1_000
"""Whoever is farther from the time than this is wrong, and says so in its log."""


class Clock:
    """One node's idea of the time of day."""

    __slots__ = ("_followed_ms", "_heard", "_offset", "_said", "_told_ms", "known", "members")

    def __init__(self, now: int, wall_ms: int, members: int = 1) -> None:
        self.members = members
        """How many nodes the cluster has, with this one; kept by the node."""
        self._offset = self._said = wall_ms - now
        """``_said``: what this machine's own wall clock says, as an offset too."""
        self._followed_ms = now
        self._told_ms = 0
        self.known = False
        """Whether a majority has agreed with this node since its start: then it knows the time."""
        self._heard: dict[bytes, tuple[int, int]] = {}
        """For each peer (its wall clock's offset to our monotonic clock, when it said so)."""

    def time_ms(self, now: int) -> int:
        """Return the time of day; it never runs backwards."""
        time_ms = now + self._offset
        if time_ms < self._told_ms:
            return self._told_ms
        self._told_ms = time_ms
        return time_ms

    def wall_ms(self, now: int) -> int:
        """Return what this machine's own clock says, for its peers."""
        return now + self._said

    @property
    def sure(self) -> bool:
        """Whether a majority of the members, as far as heard lately, agrees with the time that this
        node goes by. What cannot be undone, such as forgetting for good, waits for that.
        """
        said = [offset for offset, _ in self._heard.values()]
        near = sum(abs(offset - self._offset) <= FAR_MS for offset in [*said, self._said])
        return 2 * near > max(self.members, len(said) + 1)

    @property
    def off_ms(self) -> int:
        """By how much this machine's own clock is ahead of the time that the node goes by."""
        return self._said - self._offset

    @property
    def wrong(self) -> bool:
        """Whether this machine's own clock is far from what a majority says."""
        return abs(self._said - self._offset) > FAR_MS and self.sure

    def own(self, now: int, wall_ms: int) -> None:
        """What the machine's own clock says now."""
        self._said = wall_ms - now
        if now - self._followed_ms >= FOLLOW_MS or not self.known:
            self._follow(now)

    def said(self, peer: bytes, now: int, wall_ms: int, trip_ms: int) -> None:
        """What a peer's clock said, in an answer that took so long there and back."""
        if trip_ms <= TRIP_MAX_MS:
            self._heard[peer] = (wall_ms + trip_ms // 2 - now, now)
            if not self.known:
                self._follow(now)

    def _follow(self, now: int) -> None:
        """Move the offset to where a majority wants it, or towards that."""
        passed_ms, self._followed_ms = now - self._followed_ms, now
        heard = self._heard
        for peer in [peer for peer, (_, at) in heard.items() if now - at > FORGET_MS]:
            del heard[peer]
        said = sorted([offset for offset, _ in heard.values()] + [self._said])
        majority = max(self.members, len(said)) // 2 + 1
        if len(said) < majority:
            if not self.known:
                self._settle(self._said)
            return
        least, most = said[len(said) - majority], said[majority - 1]
        gap = max(least, min(most, self._offset)) - self._offset
        if not self.known:
            if abs(gap) > FAR_MS:
                sometimes("a node takes the time from its peers at its start")
            self._settle(self._offset + gap)
            self.known = self.sure
        elif gap > FAR_MS and majority > 1:
            self._offset += gap
        else:
            step = max(1, passed_ms * SLEW_PER_MILLE // 1000)
            self._offset += max(-step, min(step, gap))

    def _settle(self, offset: int) -> None:
        """Nothing was told by this node's time so far: it may go back, too."""
        self._offset = offset
        self._told_ms = 0
