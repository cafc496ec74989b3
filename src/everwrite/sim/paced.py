"""The judge of background work: it gives way to requests, and nothing of it starves.

    pace        while somebody is served a node grants no more slices than its rate allows, nor more
                of those that nobody waits for than the controller says; and no kind of background
                work that goes on asking waits longer than STARVES_MS

Costs: seven kinds for each look at a node's tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.pace.control import IDLE_MS
from everwrite.core.pace.pace import BURST_MS, EACH_MIN, HURRIED, KINDS, Kind, Pace
from everwrite.sim.truth import Violation

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine

UNHURRIED: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in HURRIED)
STARVES_MS = 3_000
"""Each kind has two slices a second at least, and whoever waits asks again twice a second."""


EPISODE_MS = 5_000
"""So long what was granted is added up: then a burst that is allowed hides nothing."""


class Episode:
    """A time in which one node served requests all along."""

    __slots__ = ("free", "granted", "heard", "pace", "rate", "since", "unhurried")

    def __init__(self, pace: Pace, now: int) -> None:
        self.pace = pace
        self.since = now
        self.granted, self.unhurried = _granted(pace, KINDS), _granted(pace, UNHURRIED)
        """Slices when it began, and those of them that nobody waits for."""
        self.heard = pace.control.heard_ms
        """When something was done for a request last."""
        self.rate = pace.rate(now)
        """The most that was allowed in it."""
        self.free = pace.control.rate
        """The most of that for what nobody waits for."""


def judge_pace(machine: Machine) -> None:
    """Raise Violation for a node whose background work takes too much, or gets nothing."""
    node = machine.node
    if node is None or not node.local.pace.on:
        return
    pace, now = node.local.pace, node.local.now
    for kind, share in pace.shares.items():
        waited_ms = now - share.since_ms if share.since_ms >= 0 else 0
        if waited_ms > STARVES_MS and now - share.asked_ms < IDLE_MS:
            raise Violation(
                "pace", f"{machine.me.name} has granted nothing to {kind} for {waited_ms} ms"
            )
    episode = machine.paced
    over = (
        episode is None
        or episode.pace is not pace  # another life
        or now - episode.heard >= IDLE_MS  # it may have served nobody in between
        or now - episode.since >= EPISODE_MS
    )
    if episode is None or over:
        machine.paced = Episode(pace, now)
        return
    episode.heard = pace.control.heard_ms
    episode.rate = max(episode.rate, pace.rate(now))
    episode.free = max(episode.free, pace.control.rate)
    passed_s = (now - episode.since) / 1000
    for kinds, before, allowed in (
        (KINDS, episode.granted, episode.rate),
        (UNHURRIED, episode.unhurried, episode.free),
    ):
        granted = _granted(pace, kinds) - before
        rate = allowed + EACH_MIN * len(kinds)
        most = rate * (passed_s + 2 * BURST_MS / 1000) + 2 * len(kinds)
        if granted > most:
            raise Violation(
                "pace",
                f"{machine.me.name} has granted {granted} slices in {passed_s:.3f} s while it "
                f"served requests, to {', '.join(kinds)}; at {rate:.0f} a second {most:.0f} are "
                f"the most",
            )


def _granted(pace: Pace, kinds: tuple[Kind, ...]) -> int:
    return sum(pace.shares[kind].granted for kind in kinds)
