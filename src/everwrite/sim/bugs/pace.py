"""Bugs by which background work takes what requests need, or gets nothing for ever."""

from __future__ import annotations

from everwrite.core.pace.control import Controller
from everwrite.core.pace.pace import Kind, Pace, Share
from everwrite.sim.bugs.registry import Patch, area

bug = area("background work")

PACE = ("pace",)


@bug(
    "pace-not-asked",
    "background work takes what it wants, whoever is served",
    rules=PACE,
    needs=("changing",),
)
def _pace_not_asked() -> list[Patch]:
    def wait_ms(self: Pace, kind: Kind, now: int) -> int:
        self.wake(now)
        return self._grant(self.shares[kind])

    return [(Pace, "wait_ms", wait_ms)]


@bug(
    "pace-forgets-what-it-gave",
    "a slice that was granted is not taken from what there is",
    rules=PACE,
    needs=("changing",),
)
def _pace_forgets_what_it_gave() -> list[Patch]:
    grant = Pace._grant

    def forgets(self: Pace, share: Share) -> int:
        share.tokens += 1
        return grant(self, share)

    return [(Pace, "_grant", forgets)]


@bug(
    "pace-starves",
    "moves get nothing while anybody is served",
    rules=PACE,
    needs=("changing",),
)
def _pace_starves() -> list[Patch]:
    whole = Pace.wait_ms

    def wait_ms(self: Pace, kind: Kind, now: int) -> int:
        if kind != "moves" or self.control.idle(now):
            return whole(self, kind, now)
        share = self.shares[kind]
        share.asked_ms = now
        share.since_ms = now if share.since_ms < 0 else share.since_ms
        return 100

    return [(Pace, "wait_ms", wait_ms)]


@bug(
    "pace-hurries-all",
    "what nobody waits for has as much as what is hurried while requests suffer",
    rules=PACE,
)
def _pace_hurries_all() -> list[Patch]:
    begin = Pace.__init__

    def hurries(self: Pace, now: int, *, on: bool, floor_ms: int, cap_ms: int) -> None:
        begin(self, now, on=on, floor_ms=floor_ms, cap_ms=cap_ms)
        for share in self.shares.values():
            share.hurried = True

    return [(Pace, "__init__", hurries)]


@bug(
    "pace-takes-all-for-idle",
    "a node that serves requests takes itself for idle",
    rules=PACE,
    needs=("changing",),
)
def _pace_takes_all_for_idle() -> list[Patch]:
    return [(Controller, "idle", lambda self, now: True)]
