"""A holder answers what it has in a range of a partition, or whether it has all of one.

    Pull  -> read the range -> the same as the asker's digest? SAME, else the beginning of it
    Match -> read the range -> SAME or not

A Pull is answered by whoever keeps the partition, a Match only by who serves it. At most
``2 * moves_max`` are answered at a time; more are told BUSY, and come again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.local import Local, Request
from everwrite.core.messages.moving import Match, Matched, Pull, Slice
from everwrite.core.messages.requests import BUSY, FOUND, NOT_HERE, SAME, UNREADABLE
from everwrite.core.moving.ranges import Scanned, digest_of, items_of, scan_of
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes

if TYPE_CHECKING:
    from everwrite.core.moving.moves import Moves


class Give(Request):
    """One range that is read for another node."""

    __slots__ = ("_asked", "_local", "_moves", "_reads", "_source", "_until", "_waits_ms", "rid")

    def __init__(self, local: Local, moves: Moves, source: Place, asked: Pull | Match) -> None:
        self._local = local
        self._moves = moves
        self._source = source
        self._asked = asked
        self._reads = False
        self._waits_ms = 0
        self._until = local.now + local.config.move_retry_ms // 2
        self.rid = 0

    def begin(self) -> None:
        """Answer at once if there is nothing to read, or no room; else read."""
        local, asked, config = self._local, self._asked, self._local.config
        if not self._moves.may_answer(asked):
            self._answer(NOT_HERE)
            return
        if self._moves.giving >= 2 * config.moves_max:
            sometimes("a node has as many ranges to give as it will read at a time")
            self._answer(BUSY)
            return
        self._moves.giving += 1
        self.rid = local.open_request(self, self._until)
        local.background += 1
        self._read()

    def _read(self) -> None:
        """Read the range, when the pace allows it."""
        local, asked, config = self._local, self._asked, self._local.config
        wait_ms = local.pace.wait_ms("moves", local.now)
        if wait_ms:
            self._waits_ms = local.now + wait_ms
            local.wake_at(self.rid, self._waits_ms)
            return
        self._reads = True
        partitions = local.routes.placement.partitions
        local.out.scans.append(
            scan_of(
                self.rid,
                asked.partition,
                partitions,
                asked.after,
                asked.until,
                config.slice_keys,
                config.slice_bytes,
            )
        )

    def scanned(self, scanned: Scanned) -> None:
        self._close()
        asked = self._asked
        items, damaged = items_of(scanned, self._local.records)
        if not self._moves.may_answer(asked):  # given away while it was read
            self._answer(NOT_HERE)
            return
        same = not scanned.more and not damaged and digest_of(items) == asked.digest
        if same:
            self._answer(SAME)
        elif isinstance(asked, Match):
            self._answer(FOUND)
        else:
            if damaged:
                sometimes("a node gives a range of which it cannot read all")
            last = scanned.pairs[-1][0][1:] if scanned.more else asked.until
            size = sum(len(key) + len(record) for key, record in items)
            self._moves.gave(len(items), size)
            self._local.out.send(
                self._source, Slice(asked.rid, FOUND, items, last, bool(damaged), asked.step)
            )

    def unscanned(self) -> None:
        self._close()
        self._answer(UNREADABLE)

    def wake(self) -> None:
        """It is this one's turn; or the disk took too long, and who asked will come again."""
        if self._local.now < self._until:
            if not self._reads and self._local.now >= self._waits_ms:
                self._read()
            return
        self._close()
        self._answer(BUSY)

    def _answer(self, status: int) -> None:
        asked, out = self._asked, self._local.out
        if isinstance(asked, Pull):
            out.send(self._source, Slice(asked.rid, status, [], step=asked.step))
        elif status == SAME:  # who asks will remove its own: ours must be on the disk for good
            out.on_sync.append((self._source, Matched(asked.rid, SAME, asked.step)))
        else:
            out.send(self._source, Matched(asked.rid, status, asked.step))

    def _close(self) -> None:
        del self._local.requests[self.rid]
        self._local.background -= 1
        self._moves.giving -= 1
