"""Two owners of a partition see where they differ, and give each other what they lack
(Dynamo 4.7).

    descend -> wait a moment -> look again -> for some ranges of the leaves that still differ:
    read the own copies -> say what they are -> hear what differs -> merge it on both sides
    -> the next ranges; nothing left: compare the roots once more

The one that asks keeps all of the state. The other one answers each question by itself
(answer.py), so it may restart at any step. Whatever goes wrong ends the exchange, and leaves
nothing to be taken back: what was merged is merged, and the next exchange finds less to do.

What is on its way from a coordinator to its replicas differs too, for some milliseconds. So a leaf
counts only if it differs twice.

A leaf that differs in its sum and in no key is made anew on both sides: one tree is out of step
with its disk. Nothing is ever removed because of a tree.

Costs: 9 bytes for each sum and for each copy in a leaf that differs (four at a million keys on a
node), then each record that is lacking, once. One exchange holds at most ``slice_bytes`` of
records, and one more, of either side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.data import versions
from everwrite.core.errors import ProtocolError
from everwrite.core.local import Local, Request
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import FOUND, NOT_HERE, SAME, STORED, UNREADABLE
from everwrite.core.messages.trees import Differing, Entries, Rooted, Summed, Sums
from everwrite.core.moving.ranges import WINDOW, Scan, Scanned, items_of
from everwrite.core.outbox import Place
from everwrite.core.records import OWN
from everwrite.core.repair.carry import Carry, Copy
from everwrite.core.repair.met import CARRY_BYTES, weight
from everwrite.core.repair.orders import LOOK_MS
from everwrite.core.repair.spans import (
    FAN,
    Range,
    Span,
    begun_at,
    first_width,
    numbers,
    piece_of,
    spans_of,
    sums_of,
)
from everwrite.core.trees.mend import mend

if TYPE_CHECKING:
    from everwrite.core.repair.repairs import Repairs

RANGES_MAX = 64
"""Ranges of leaves in one question."""
REFUSALS_MAX = 20
"""Times that a disk may be too busy for a record, before the exchange is given up."""


class Exchange(Request):
    """One partition and one peer."""

    __slots__ = (
        "_after",
        "_asked",
        "_check_ms",
        "_entries",
        "_held",
        "_horizon",
        "_leaves",
        "_local",
        "_more",
        "_out",
        "_progress_ms",
        "_ranges",
        "_read_ms",
        "_refusals",
        "_refused",
        "_repairs",
        "_runs",
        "_sent",
        "_todo",
        "_touched",
        "_wait_until",
        "_width",
        "_window",
        "bytes",
        "keys_in",
        "keys_out",
        "leaf",
        "leaves_found",
        "partition",
        "peer",
        "phase",
        "rid",
        "since_ms",
    )

    def __init__(
        self,
        local: Local,
        repairs: Repairs,
        partition: int,
        peer: bytes,
        leaf: int | None = None,
        after: bytes = b"",
    ) -> None:
        self._local = local
        self._repairs = repairs
        self.partition = partition
        self.peer = peer
        self.leaf = leaf
        """The only leaf to look at, whether or not it differs; None: all that differ."""
        self._after = after
        """The data key at which the exchange before this one stopped for want of time."""
        self.phase = "descends"
        self.rid = self.keys_in = self.keys_out = self.bytes = 0
        self.since_ms = self._progress_ms = local.now
        self.leaves_found = 0
        """How many leaves still differed when they were looked at again."""
        self._horizon = 0
        self._width = 1
        self._todo: list[Span] = []
        """Spans of this width that are still to be asked for, and"""
        self._asked: list[Span] = []
        """those that are asked for now."""
        self._leaves: list[int] = []
        """Of this width, from the partition's first: those that differ."""
        self._more = False
        """Whether there is more than this exchange goes into."""
        self._touched: set[int] = set()
        """Leaves in which some key differed."""
        self._runs: list[Range] = []
        """What is still to be read, the next one last."""
        self._ranges: list[Range] = []
        """What was read for the next question, or is asked for now; of it"""
        self._held: dict[bytes, bytes] = {}
        """the own copies, and"""
        self._entries: dict[int, bytes] = {}
        """by what each adds to its leaf, its key."""
        self._read_ms = 0
        """When the first of them was read, by this node's own count: before the peer read any."""
        self._out: list[Copy] = []
        """What is still to be merged."""
        self._sent = 0
        """How many records are on their way."""
        self._refused = False
        """Whether one of them was, of this batch; and"""
        self._refusals = 0
        """in how many batches so far."""
        self._window = WINDOW
        self._wait_until = 0
        """When the next step is to be done; 0: when an answer comes."""
        self._check_ms = 0

    @property
    def reads(self) -> bool:
        """Whether it goes through keys: only these are many bytes, and much work."""
        return self.phase in ("reads", "asks", "merges")

    @property
    def stopped_at(self) -> bytes:
        """Where another exchange is to go on; empty: this one went through all."""
        return self._runs[-1][0] if self._runs else b""

    def begin(self) -> None:
        local = self._local
        self._check_ms = local.now + local.config.repair_retry_ms
        self.rid = local.open_request(self, self._check_ms)
        local.background += 1
        self._horizon = self._repairs.horizon_of(self.partition)
        leaves = self._repairs.trees.leaves(self.partition)
        if self.leaf is not None:
            base = self._repairs.trees.leaves_of(self.partition).start
            self._leaves = [self.leaf - base]
            self._look_into()
            return
        self._width = first_width(len(leaves))
        self._todo = [(0, len(leaves) // self._width)]
        self._ask_sums()

    # -- which leaves differ -----------------------------------------------------------------------

    def _ask_sums(self) -> None:
        self._asked, self._todo = piece_of(self._todo)
        shape = self._repairs.trees.shape
        self._ask(Sums(self.rid, self.partition, shape, self._horizon, self._width, self._asked))

    def _ask(self, question: Message) -> None:
        self._progress_ms = self._local.now
        self.bytes += self._repairs.tell(self.peer, question)

    def replied(self, source: Place, reply: Message) -> None:
        """An answer of the peer came; to hear one twice changes only what is looked at."""
        if source != self.peer:
            return
        why = self._repairs.unfit(self.partition, self.peer, self._horizon)
        if why:
            self.end(why)
        elif isinstance(reply, Summed) and self._asked:
            self._summed(reply)
        elif isinstance(reply, Differing) and self.phase == "asks":
            self._heard_what_differs(reply)
        elif isinstance(reply, Rooted) and self.phase == "compares":
            self._done(same=reply.verdicts[:1] == [SAME])

    def _summed(self, reply: Summed) -> None:
        asked, self._asked = numbers(self._asked), []
        self.bytes += weight(reply)
        if reply.status != FOUND or len(reply.sums) != len(asked):
            self.end(self._repairs.why(reply.status))
            return
        mine = sums_of(
            self._repairs.trees.leaves(self.partition), self._width, [(at, 1) for at in asked]
        )
        self._leaves += [
            at for at, ours, theirs in zip(asked, mine, reply.sums, strict=True) if ours != theirs
        ]
        most = self._local.config.repair_leaves
        if len(self._leaves) > most:
            self._more = True
            self._todo = []
            del self._leaves[most:]
        if self._todo:
            self._ask_sums()
        elif not self._leaves:
            self._compare()
        elif self._width > 1:
            parts = min(FAN, self._width)
            self._width //= parts
            self._todo, self._leaves = spans_of(self._leaves, parts), []
            self._ask_sums()
        elif self.phase == "descends":
            self.phase = "waits"
            self._progress_ms = self._local.now
            self._wait(self._local.config.repair_settle_ms)
        else:
            self._look_into()

    def _look_again(self) -> None:
        self.phase = "looks again"
        self._todo, self._leaves = spans_of(self._leaves), []
        self._ask_sums()

    # -- which keys differ -------------------------------------------------------------------------

    def _look_into(self) -> None:
        """Go through the keys of the leaves that differ, when it is this exchange's turn."""
        self.phase = "stands by"
        if not self._repairs.may_read():
            self._wait(LOOK_MS)
            return
        self.phase = "reads"
        self.leaves_found = len(self._leaves)
        trees = self._repairs.trees
        base = trees.leaves_of(self.partition).start
        spans = ((base + first, base + first + count) for first, count in spans_of(self._leaves))
        ranges = [(trees.first_key(first), trees.first_key(until)) for first, until in spans]
        self._runs = begun_at(ranges, self._after)[::-1]
        self._begin_question()

    def _begin_question(self) -> None:
        local = self._local
        late = local.now - self.since_ms >= local.config.repair_session_ms
        if not self._runs or (late and self.phase == "merges"):
            self._compare()
            return
        self.phase = "reads"
        self._ranges, self._held, self._entries = [], {}, {}
        self._read_ms = local.stamp
        self._read()

    def _read(self) -> None:
        """Read the own copies of the next range, when the pace allows it."""
        local, config = self._local, self._local.config
        self._progress_ms = local.now
        wait_ms = local.pace.wait_ms("repair", local.now)
        if wait_ms:
            self._wait(wait_ms)
            return
        start, end = self._runs[-1]
        local.out.scans.append(
            Scan(self.rid, OWN + start, OWN + end, config.slice_keys, config.slice_bytes)
        )

    def scanned(self, scanned: Scanned) -> None:
        # What is damaged here is as good as lacking.
        items, _ = items_of(scanned, self._local.records)
        trees = self._repairs.trees
        for key, record in items:
            self._held[key] = record
            self._entries[trees.entry(key, record)] = key
        start, end = self._runs.pop()
        if scanned.more:
            cut = scanned.pairs[-1][0][1:] + b"\0"
            self._runs.append((cut, end))
            end = cut
        self._ranges.append((start, end))
        size = sum(map(len, self._held.values()))
        # A question goes upwards: what an exchange before had no time for is another one.
        wraps = bool(self._runs) and self._runs[-1][0] < start
        full = (
            wraps
            or len(self._entries) >= self._local.config.repair_keys
            or len(self._ranges) >= RANGES_MAX
            or size >= self._local.config.slice_bytes
        )
        if self._runs and not full:
            self._read()
            return
        self.phase = "asks"
        self._ask(
            Entries(
                self.rid,
                self.partition,
                trees.shape,
                self._horizon,
                self._ranges,
                list(self._entries),
            )
        )

    def unscanned(self) -> None:
        self.end("its own disk cannot be read")

    def _heard_what_differs(self, reply: Differing) -> None:
        self.bytes += weight(reply)
        if reply.status != FOUND:
            self.end(self._repairs.why(reply.status))
            return
        if reply.last and reply.last <= self._ranges[0][0]:
            self.end("the peer's answer makes no headway")
            return
        self._progress_ms = self._local.now
        size = sum(len(key) + len(record) for key, record in reply.items)
        self.bytes += size
        self._repairs.counters.bytes_in += size
        self.phase = "merges"
        if reply.last:
            left = [(max(start, reply.last), end) for start, end in self._ranges]
            self._runs += [(start, end) for start, end in reversed(left) if start < end]
        try:
            self._tell_apart(reply)
        except ProtocolError:
            self.end("the peer gave what is no record")
            return
        self._held, self._entries, self._ranges = {}, {}, []
        self._merge()

    def _tell_apart(self, reply: Differing) -> None:
        """Find out what each side lacks."""
        local, held = self._local, self._held
        theirs = dict(reply.items)
        for key, record in theirs.items():
            mine = held.get(key)
            merged = versions.merge_bytes(mine, record) if mine is not None else record
            if merged != mine:
                self._out.append(Copy(local.me, key, record, self._read_ms))
            if merged != record and mine is not None:
                self._out.append(Copy(self.peer, key, mine, self._read_ms))
        for entry in reply.wanted:
            key = self._entries.get(entry, b"")
            if key and key not in theirs and not (reply.last and key >= reply.last):
                self._out.append(Copy(self.peer, key, held[key], self._read_ms))

    # -- what differs is merged --------------------------------------------------------------------

    def _merge(self) -> None:
        """Send some records to where they are lacking, when the pace allows it."""
        local = self._local
        self._progress_ms = local.now
        if not self._out:
            self._begin_question()
            return
        wait_ms = local.pace.wait_ms("repair", local.now)
        if wait_ms:
            self._wait(wait_ms)
            return
        batch, self._out = self._out[: self._window], self._out[self._window :]
        self._sent = len(batch)
        for copy in batch:
            if copy.target == self.peer:
                size = len(copy.key) + len(copy.record) + CARRY_BYTES
                self.bytes += size
                self._repairs.counters.bytes_out += size
            Carry(local, self, copy).begin()

    def carried(self, copy: Copy, status: int) -> None:
        """One record is merged and fsynced, or not; when all of them are, the next ones go."""
        local = self._local
        if self.rid not in local.requests:
            return
        self._progress_ms = local.now
        self._sent -= 1
        if status == NOT_HERE:
            self.end("a side owns it no more")
            return
        if status == STORED:
            self._arrived(copy)
        elif status == UNREADABLE:
            self._mend(copy)
        else:
            self._refused = True
            self._out.append(copy)
        if self._sent:
            return
        if not self._refused:
            self._merge()
            return
        # A disk is too busy, or takes no writes: once more, later, and fewer at a time.
        self._refused = False
        self._refusals += 1
        if self._refusals > REFUSALS_MAX:
            self.end("a side takes no writes")
            return
        self._window = max(1, self._window // 4)
        self._wait(local.config.move_every_ms)

    def _arrived(self, copy: Copy) -> None:
        self._touched.add(self._repairs.trees.leaf_of(copy.key))
        if copy.target == self.peer:
            self.keys_out += 1
            self._repairs.counters.keys_out += 1
        else:
            self.keys_in += 1
            self._repairs.counters.keys_in += 1

    def _mend(self, copy: Copy) -> None:
        """The copy is damaged there: only the join of all that others have may replace it."""
        self._touched.add(self._repairs.trees.leaf_of(copy.key))
        self._repairs.counters.mended += 1
        mend(self._local, copy.key, copy.record, copy.read_ms)

    # -- its end -----------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Say which leaves are in doubt, and see whether the two are the same now."""
        self.phase = "compares"
        doubts = self._doubtful()
        self._ask(self._repairs.roots_of(self.rid, [self.partition], doubts))
        if doubts:
            self._repairs.doubt(doubts)
            self._done(same=False)

    def _doubtful(self) -> list[int]:
        """Return the leaves that were gone through, and in which no key differs."""
        if self.leaf is not None or not self.leaves_found:
            return []  # whether its sum differs was not looked at, or none does
        trees = self._repairs.trees
        leaves = trees.leaves_of(self.partition)
        left = set(self._touched)
        for start, end in self._runs:  # one leaf too many where a run ends with a leaf
            left.update(range(trees.leaf_of(start), trees.leaf_of(end) + 1))
        return [leaf for at in self._leaves if (leaf := leaves.start + at) not in left]

    def _done(self, *, same: bool) -> None:
        self._close()
        self._repairs.exchanged(self, same=same, more=self._more or bool(self._runs))

    def lost(self, peer: bytes) -> None:
        if peer == self.peer:
            self.end("the peer went down")

    def _wait(self, ms: int) -> None:
        self._wait_until = self._local.now + ms
        self._local.wake_at(self.rid, self._wait_until)

    def wake(self) -> None:
        local = self._local
        if self._wait_until and local.now >= self._wait_until:
            self._wait_until = 0
            self._progress_ms = local.now
            if self.phase == "waits":
                self._look_again()
            elif self.phase == "stands by":
                self._look_into()
            elif self.phase == "reads":
                self._read()
            else:
                self._merge()
        if self.rid not in local.requests or local.now < self._check_ms:
            return
        silent = 0 if self._wait_until else local.now - self._progress_ms
        if silent >= local.config.repair_retry_ms:
            self.end("its own disk is silent" if self.phase == "reads" else "the peer is silent")
            return
        self._check_ms = local.now + local.config.repair_retry_ms - silent
        local.wake_at(self.rid, self._check_ms)

    def end(self, why: str) -> None:
        """Give it up for now."""
        self._close()
        self._repairs.ended(self, why)

    def _close(self) -> None:
        local = self._local
        if local.requests.pop(self.rid, None) is not None:
            local.background -= 1
