"""Bugs in what has an end: when it is hidden, when it is purged, and by whose clock."""

from __future__ import annotations

from everwrite.core.copies import Copies
from everwrite.core.data import versions
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.expiry.clock import Clock
from everwrite.core.local import Local
from everwrite.sim.bugs.registry import Patch, area

bug = area("expiry")


@bug("ended-is-shown", "a read shows what has ended", rules=("ended",), needs=("ending",))
def _ended_is_shown() -> list[Patch]:
    right = versions.live

    def live(record: Record, time_ms: int = 0) -> list[Version]:
        return right(record)

    return [(versions, "live", live)]


@bug(
    "touch-is-lost-in-a-merge",
    "of two copies of one version the one that is here stays, however the other was touched",
    rules=("touched", "quorum", "agreement"),
    needs=("touching",),
)
def _touch_is_lost_in_a_merge() -> list[Patch]:
    return [(versions, "_outlives", lambda one, other: False)]


@bug(
    "touch-brings-back",
    "a touch gives what has ended, and lost its value nowhere yet, a new end",
    rules=("ended", "quorum", "collected", "resurrection"),
    needs=("touching",),
)
def _touch_brings_back() -> list[Patch]:
    right_touch, right_live = versions.touch, versions.live

    def touch(record: Record, expires: int, time_ms: int) -> Record:
        return right_touch(record, expires, 0)

    def live(record: Record, time_ms: int = 0) -> list[Version]:
        return right_live(record, time_ms - 2_000)

    return [(versions, "touch", touch), (versions, "live", live)]


@bug(
    "superseded-is-forgotten",
    "a version that superseded others goes at its end without a tombstone",
    rules=("collected", "resurrection", "lost", "agreement"),
    needs=("ending",),
)
def _superseded_is_forgotten() -> list[Patch]:
    def is_pure(seen: Seen, expires: int) -> bool:
        return expires > 0

    return [(versions, "is_pure", is_pure)]


@bug(
    "end-not-listed",
    "a copy with an end is not listed among those that end",
    rules=("lists",),
    needs=("ending",),
)
def _end_not_listed() -> list[Patch]:
    return [(Copies, "entry", lambda self, data_key, record: b"")]


@bug(
    "entry-left-behind",
    "a touch leaves the copy listed under the slot in which it would have ended",
    rules=("lists",),
    needs=("touching",),
)
def _entry_left_behind() -> list[Patch]:
    right = Copies._list

    def listed(self: Copies, data_key: bytes, record: Record | None, was: Record | None) -> None:
        if was is None or record is None:
            right(self, data_key, record, was)

    return [(Copies, "_list", listed)]


@bug(
    "own-clock",
    "a node goes by its own clock, whatever the others say",
    rules=("ended", "lost", "collected", "context", "unread", "resurrection", "agreement"),
    needs=("ending", "wall_jump"),
)
def _own_clock() -> list[Patch]:
    def follow(self: Clock, now: int) -> None:
        self._offset = self._said
        self.known = True

    return [(Clock, "_follow", follow)]


@bug(
    "time-at-the-start",
    "a node that has heard nobody yet takes its own clock for the time",
    rules=("ended", "lost", "collected", "context", "unread", "resurrection", "agreement"),
    needs=("ending", "wall_jump"),
)
def _time_at_the_start() -> list[Patch]:
    right = Clock.own

    def own(self: Clock, now: int, wall_ms: int) -> None:
        right(self, now, wall_ms)
        self.known = True

    return [(Clock, "own", own)]


@bug(
    "session-over-by-no-clock",
    "a node that does not know the time takes what a session saw, and ends one day, for ended",
    rules=("session",),
    needs=("ending",),
)
def _session_over_by_no_clock() -> list[Patch]:
    def is_over(self: Local, ends: int) -> bool:
        return ends > 0 and (not self.clock.known or ends <= self.time_ms)

    return [(Local, "is_over", is_over)]
