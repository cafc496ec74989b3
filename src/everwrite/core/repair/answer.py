"""An owner answers whether, and then in which copies, it differs from another one.

    Roots, Sums -> at once, from the tree
    Entries -> read the same ranges -> Differing: the records that the asker has not, and which of
    its own were not found here

It keeps nothing from one question to the next. At most ``2 * repairs_max`` are answered at a time;
more are told BUSY, and come again. What is given is bounded by ``slice_bytes`` and one record more;
where that is not all, the answer says how far it goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.local import Local, Request
from everwrite.core.messages.requests import BUSY, FOUND, NOT_HERE, SAME, UNREADABLE
from everwrite.core.messages.trees import (
    DIFFERENT,
    OTHER_SHAPE,
    Differing,
    Entries,
    Rooted,
    Roots,
    Summed,
    Sums,
)
from everwrite.core.moving.ranges import Item, Scan, Scanned, items_of
from everwrite.core.outbox import Place, node_at
from everwrite.core.probes import sometimes
from everwrite.core.records import OWN
from everwrite.core.repair.spans import are_within, sums_of

if TYPE_CHECKING:
    from everwrite.core.repair.repairs import Repairs

KEYS_TIMES = 4
"""Own copies that are read for one answer, to those of which a question speaks."""


ROOTS_MAX = 1024
"""Partitions of one question for roots: 20 KiB."""
DOUBTS_MAX = 4096
"""Leaves that one peer can bring into doubt at once."""


class Answers:
    """What one node answers to the exchanges of others."""

    def __init__(self, local: Local, repairs: Repairs) -> None:
        self._local = local
        self._repairs = repairs
        self.answering = 0
        """Questions for keys that are being answered."""
        self._lent: dict[int, tuple[bytes, int]] = {}
        """For each partition: which peer's exchange is answered, and until when it is kept for it.
        """

    def roots(self, source: Place, message: Roots) -> None:
        source = node_at(source)
        roots = message.roots[:ROOTS_MAX]
        if message.shape != self._repairs.trees.shape:
            self._repairs.tell(source, Rooted(message.rid, [OTHER_SHAPE] * len(roots)))
            return
        verdicts = []
        self._repairs.expiry.heard(message.step)
        for partition, horizon, root in roots:
            verdict = self._repairs.unfit_for(partition, source, horizon)
            if not verdict:
                verdict = SAME if root == self._repairs.trees.root(partition) else DIFFERENT
            if verdict == SAME:
                self._repairs.agree((partition, source))
            verdicts.append(verdict)
        if message.doubts and len(roots) == 1 and verdicts[0] in (SAME, DIFFERENT):
            mine = self._repairs.trees.leaves_of(roots[0][0])
            self._repairs.doubt([leaf for leaf in message.doubts[:DOUBTS_MAX] if leaf in mine])
        if len(roots) == 1:  # the end of an exchange
            self._lent.pop(roots[0][0], None)
        self._repairs.tell(source, Rooted(message.rid, verdicts))

    def sums(self, source: Place, message: Sums) -> None:
        source = node_at(source)
        status = self._lend(source, message)
        leaves = self._repairs.trees.leaves(message.partition) if not status else []
        if not status and not are_within(message.spans, message.width, len(leaves)):
            status = NOT_HERE
        if status:
            self._repairs.tell(source, Summed(message.rid, status, []))
            return
        sums = sums_of(leaves, message.width, message.spans)
        self._repairs.tell(source, Summed(message.rid, FOUND, sums))

    def entries(self, source: Place, message: Entries) -> None:
        source = node_at(source)
        status = self._lend(source, message)
        if not status and not self._are_mine(message):
            status = NOT_HERE
        if not status and self.answering >= 2 * self._local.config.repairs_max:
            status = BUSY
        if status:
            self._repairs.tell(source, Differing(message.rid, status, [], []))
            return
        self.answering += 1
        Answer(self._local, self._repairs, source, message).begin()

    def _are_mine(self, message: Entries) -> bool:
        """Say whether these are ranges of that partition, in order."""
        leaves = self._repairs.trees.leaves_of(message.partition)
        trees = self._repairs.trees
        last, until = trees.first_key(leaves.start), trees.first_key(leaves.stop)
        for start, end in message.ranges:
            if not last <= start < end <= until:
                return False
            last = end
        return True

    def _lend(self, peer: bytes, message: Sums | Entries) -> int:
        """Keep a partition for the exchange of a peer; return why not, as a status.

        One exchange at a time: two of them would bring the same records twice. If both sides have
        begun one, that of the lower id goes on.
        """
        local, partition = self._local, message.partition
        unfit = self._repairs.unfit_for(partition, peer, message.horizon)
        if unfit or message.shape != self._repairs.trees.shape:
            return unfit or OTHER_SHAPE
        lent_to, until = self._lent.get(partition, (peer, 0))
        if lent_to != peer and until > local.now:
            sometimes("a peer is told to wait with a partition that another one repairs")
            return BUSY
        running = self._repairs.running.get(partition)
        if running is not None and (running.peer != peer or peer > local.me):
            return BUSY
        self._lent[partition] = peer, local.now + local.config.repair_retry_ms
        return 0

    def is_lent(self, partition: int) -> bool:
        """Say whether a partition is kept for the exchange of a peer."""
        lent = self._lent.get(partition)
        if lent is not None and lent[1] <= self._local.now:
            del self._lent[partition]
            return False
        return lent is not None


class Answer(Request):
    """One question that is being answered."""

    __slots__ = (
        "_asked",
        "_at",
        "_deadline",
        "_items",
        "_keys",
        "_local",
        "_repairs",
        "_size",
        "_source",
        "_start",
        "_unmatched",
        "_wait_until",
        "rid",
    )

    def __init__(self, local: Local, repairs: Repairs, source: bytes, asked: Entries) -> None:
        self._local = local
        self._repairs = repairs
        self._source = source
        self._asked = asked
        self._unmatched = dict.fromkeys(asked.entries)
        """The asker's entries that were not found here so far."""
        self._items: list[Item] = []
        """What the asker has not, so far; so many bytes:"""
        self._size = 0
        self._keys = 0
        """Copies that were read so far."""
        self._at = 0
        """Which range is read; from which data key:"""
        self._start = asked.ranges[0][0] if asked.ranges else b""
        self._wait_until = 0
        """When the next range is to be read; 0: when this one was."""
        self._deadline = local.now + local.config.repair_retry_ms
        self.rid = 0

    def begin(self) -> None:
        local = self._local
        self.rid = local.open_request(self, self._deadline)
        local.background += 1
        self._read()

    def _read(self) -> None:
        """Read the next range, when the pace allows it."""
        local, config, ranges = self._local, self._local.config, self._asked.ranges
        if self._at >= len(ranges):
            self._end(FOUND)
            return
        wait_ms = local.pace.wait_ms("repair", local.now)
        if wait_ms:
            self._wait_until = local.now + wait_ms
            local.wake_at(self.rid, self._wait_until)
            return
        end = ranges[self._at][1]
        local.out.scans.append(
            Scan(self.rid, OWN + self._start, OWN + end, config.slice_keys, config.slice_bytes)
        )

    def scanned(self, scanned: Scanned) -> None:
        entry, unmatched = self._repairs.trees.entry, self._unmatched
        # Who asks finds out what is damaged when it gives its own.
        items, _ = items_of(scanned, self._local.records)
        for key, record in items:
            mine = entry(key, record)
            if mine in unmatched:
                del unmatched[mine]
            else:
                self._items.append((key, record))
                self._size += len(key) + len(record)
        self._keys += len(scanned.pairs)
        if scanned.more:
            self._start = scanned.pairs[-1][0][1:] + b"\0"
        else:
            self._at += 1
            if self._at < len(self._asked.ranges):
                self._start = self._asked.ranges[self._at][0]
        left = self._at < len(self._asked.ranges)
        config = self._local.config
        full = self._size >= config.slice_bytes or self._keys >= KEYS_TIMES * config.repair_keys
        if left and full:
            self._end(FOUND, self._start)
        else:
            self._read()

    def unscanned(self) -> None:
        self._end(UNREADABLE)

    def wake(self) -> None:
        if self._local.now >= self._deadline:  # who asked does not wait longer either
            self._end(BUSY)
        elif self._wait_until and self._local.now >= self._wait_until:
            self._wait_until = 0
            self._read()

    def _end(self, status: int, last: bytes = b"") -> None:
        local, asked = self._local, self._asked
        if local.requests.pop(self.rid, None) is not None:
            local.background -= 1
            self._repairs.answers.answering -= 1
        unfit = self._repairs.unfit_for(asked.partition, self._source, asked.horizon)
        if unfit:
            status = unfit
        if status != FOUND:
            self._repairs.tell(self._source, Differing(asked.rid, status, [], []))
            return
        wanted = list(self._unmatched)
        reply = Differing(asked.rid, FOUND, self._items, wanted, last)
        self._repairs.tell(self._source, reply)
