"""Which of its increments a node leaves apart, since another one may have minted them as well.

An increment that was minted twice, by two nodes that did not hear of each other, is counted once
because both stand under one request id. A fold (core/types/changing.py) has none any more. So one
may be folded only when nobody makes it again who does not know it: its put was answered, and as
many nodes as own the key had a copy, before whoever asked lost patience. Until then, and where that
was late, failed, or was a retry itself, its id is *unsettled*. After DOUBT_MS nobody waits any more
for the two to meet.

The answer alone is not enough: a cut may swallow it, and its client turn to a node that has no
copy. But that is rare, and while an owner is down it is all that there is of every put. So of those
that were answered promptly, and have not all copies, the last ANSWERED_MAX of a key are unsettled,
and leave room for the others.

Only the node that minted an increment folds it, and only in the life in which it did: so this need
not outlive the process.

Costs: one entry of a dictionary for each increment under way.
"""

from __future__ import annotations

from collections.abc import Iterable

PROMPT_MS = 150
"""Who asked for a put that took no longer does not make it again: nodes that hand puts on, and
clients, wait for a quarter of a second and more."""
ANSWERED_MAX = 32
"""The newest of a key that stand apart since not all copies of them were acknowledged."""
DOUBT_MS = 600_000
"""For so long a cut, or a pause, may keep two who minted one increment from each other."""
UNSETTLED_MAX = 65_536
"""Beyond, the oldest are taken for settled: 8 MB."""


class Unsettled:
    """Request ids of increments, the oldest first."""

    __slots__ = ("_answered", "_since", "dropped")

    def __init__(self) -> None:
        self._since: dict[bytes, tuple[int, bytes]] = {}
        """Id -> (when it was minted, its key if its put was answered promptly)."""
        self._answered: dict[bytes, dict[bytes, None]] = {}
        """Key -> those of its ids whose puts were answered promptly, the oldest first."""
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
            self._drop(op)  # or it would keep its place, and those behind it with it
            since[op] = now, b""
        while len(since) > UNSETTLED_MAX:
            self.dropped += 1
            self._drop(next(iter(since)))

    def forget(self, now: int) -> None:
        """Take for settled what has been in doubt for too long."""
        since = self._since
        while since:
            oldest = next(iter(since))
            if since[oldest][0] + DOUBT_MS > now:
                return
            self._drop(oldest)

    def answered(self, key: bytes, ops: Iterable[bytes]) -> None:
        """The put of these was answered promptly, and not all its copies are acknowledged yet."""
        there = self._answered.setdefault(key, {})
        for op in ops:
            if op in self._since:
                self._since[op] = self._since[op][0], key
                there[op] = None
        while len(there) > ANSWERED_MAX:
            self._drop(next(iter(there)))
        if not there:
            del self._answered[key]

    def settle(self, ops: Iterable[bytes]) -> None:
        """The put of these was answered promptly, and so were all its copies."""
        for op in ops:
            self._drop(op)

    def _drop(self, op: bytes) -> None:
        _, key = self._since.pop(op, (0, b""))
        there = self._answered.get(key)
        if there is not None:
            there.pop(op, None)
            if not there:
                del self._answered[key]
