"""Which of its increments a node leaves apart, since another one may have minted them as well.

An increment that was minted twice, by two nodes that did not hear of each other, is counted once
because both stand under one request id. A fold (core/types/changing.py) has none any more. So one
may be folded only when nobody has a reason to make it again: its put was acknowledged before
whoever asked lost patience. Until then, and where it was late, failed, or was a retry itself, its
id is *unsettled*. After DOUBT_MS nobody waits any more for the two to meet.

Only the node that minted an increment folds it, and only in the life in which it did: so this need
not outlive the process.

Costs: one entry of a dictionary for each increment under way.
"""

from __future__ import annotations

from collections.abc import Iterable

PROMPT_MS = 150
"""A put that took no longer is made by nobody else: nodes that hand puts on, and clients, wait for
a quarter of a second and more."""
DOUBT_MS = 600_000
"""For so long a cut, or a pause, may keep two who minted one increment from each other."""
UNSETTLED_MAX = 65_536
"""Beyond, the oldest are taken for settled: 8 MB."""


class Unsettled:
    """Request ids of increments, the oldest first."""

    __slots__ = ("_since", "dropped")

    def __init__(self) -> None:
        self._since: dict[bytes, int] = {}
        self.dropped = 0
        """Those that were taken for settled since there were too many."""

    def __contains__(self, op: object) -> bool:
        return op in self._since

    def __len__(self) -> int:
        return len(self._since)

    def add(self, ops: Iterable[bytes], now: int) -> None:
        """These were minted now."""
        since = self._since
        for op in ops:
            since.pop(op, None)  # or it would keep its place, and those behind it with it
            since[op] = now
        while len(since) > UNSETTLED_MAX:
            self.dropped += 1
            del since[next(iter(since))]

    def forget(self, now: int) -> None:
        """Take for settled what has been in doubt for too long."""
        since = self._since
        while since:
            oldest = next(iter(since))
            if since[oldest] + DOUBT_MS > now:
                return
            del since[oldest]

    def settle(self, ops: Iterable[bytes]) -> None:
        """The put of these was acknowledged promptly."""
        for op in ops:
            self._since.pop(op, None)
