"""The tree: what all copies of owners on this disk come to, in sums that two nodes can compare
(Dynamo 4.7).

The ring has ``2 ** leaf_bits`` leaves: a leaf is the first bits of a data key's hash, for every
number of partitions, and one range of disk keys. It holds the sum, modulo 2^64, of

    entry = xxh3_64(record), seeded by the key's hash and the cluster's seed

over the copies in that range; the own epoch beside a record is no part of it. A partition's root is
the sum of its leaves. Sums know no order, so a write changes one leaf, by one subtraction and one
addition, and what was in any order comes to the same. There are no levels in between: a partition
of the usual 256 has 1024 leaves, eight KiB, which is one message.

A leaf is *right* or *wrong*. Wrong is: not known, after an unclean stop, or in doubt, since nobody
knows what a copy that was written over had added. Wrong leaves are made anew from the disk
(walk.py) while writes go on, and are never compared meanwhile.

**A leaf made anew is exact under writes.** The disk is read range by range, in order, by another
thread, at a moment somewhere between the asking and the answer. ``position`` is the key up to which
answers have come.

    written below it                     it was counted: the sum changes by the difference
    written above it, before the asking  the disk will show it
    written above it, since the asking   ``_written`` keeps what it adds now, and that counts,
                                         whatever the disk has shown

A batch counts once it is on the disk: until then ``pending`` keeps what each of its keys had
before. So one that is not written leaves no trace, and many writes of a key in one batch are one.

Costs: 0.8 microseconds for each key of a batch (two hashes, one array); 2.25 MiB for 2^18 leaves,
whatever the number of keys. Source: Dynamo 4.7; Differs: a Merkle tree hashes inner nodes, and
its leaves must be made from sorted keys; a sum needs neither. It would not stand against one who
chooses records to make two sums equal: so it is seeded by what clients do not know.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

import xxhash

from everwrite.core.errors import check
from everwrite.core.outbox import Outbox
from everwrite.core.records import MISSING, OWN, Damaged, Missing, Payload

LEAF_BITS = 18
"""A million keys are four to a leaf. A leaf that differs costs the names of all its keys, a tree
that is sent eight bytes a leaf: a hundred million keys are still only 400 to a leaf."""
LEAF_BITS_MAX = 24

FORMAT = 1
"""What an entry is made of, and how leaves are saved: nothing of another format is compared."""

UNKNOWN = -1
"""What a copy had added, where nobody knows it."""

RIGHT, WATCHED, WRONG = range(3)
"""What is known of a leaf. Watched: right, and compared with the disk just now."""

_MASK = (1 << 64) - 1
_WATCH = bytes.maketrans(bytes((RIGHT,)), bytes((WATCHED,)))
_UNWATCH = bytes.maketrans(bytes((WATCHED,)), bytes((RIGHT,)))
_ONLY_WRONG = bytes.maketrans(bytes((WATCHED, WRONG)), b"\0\1")
_BELOW = 64 - LEAF_BITS_MAX
_BEHIND_ALL = b"\xff" * 9
"""The ninth byte is a bucket's length, which is never so much."""
_ORDER = array("Q", (0x0102030405060708,)).tobytes()
"""Tells in which order this machine has the bytes of a number."""

_hash = xxhash.xxh3_64_intdigest
_place = struct.Struct(">xQ").unpack_from
"""The hash that a disk key begins with: in a third of the time of ``int.from_bytes``."""


Counted = Sequence[tuple[bytes, bytes | Damaged | int]]
"""(disk key, payload or what it adds)."""


class Trees:
    """The leaves of one node. All of them are wrong until ``load``, ``empty`` or a walk."""

    __slots__ = (
        "_bits",
        "_flags",
        "_fold",
        "_leaf",
        "_leaves",
        "_may_be_wrong",
        "_out",
        "_per_partition",
        "_redo",
        "_roots",
        "_scanning",
        "_seed",
        "_shift",
        "_stale",
        "_sum",
        "_until",
        "_written",
        "batch",
        "doubts",
        "end",
        "mismatches",
        "pending",
        "position",
        "shape",
        "size",
        "unknown",
    )

    def __init__(self, out: Outbox, seed: int, partitions: int, leaf_bits: int = LEAF_BITS) -> None:
        self._out = out
        self._bits = max(leaf_bits, partitions.bit_length() - 1)
        check(self._bits <= LEAF_BITS_MAX, "a leaf is in the first bytes", bits=self._bits)
        self._seed = seed
        self.size = 1 << self._bits
        """How many leaves there are."""
        self._per_partition = self.size // partitions
        self._fold = self._per_partition.bit_length() - 1
        self._shift = LEAF_BITS_MAX - self._bits
        self.shape = bytes((FORMAT, self._bits)) + xxhash.xxh3_64_digest(_ORDER, seed)[:6]
        """Only trees of one shape can be compared, or loaded."""
        self._leaves = array("Q", bytes(8 * self.size))
        self._flags = bytearray((WRONG,)) * self.size
        self._may_be_wrong = True
        """Not if all leaves are known to be right: a walk asks at each of its wake-ups."""
        self._roots = array("Q", bytes(8 * partitions))
        self._stale = bytearray(b"\1") * partitions
        """Partitions whose root is to be summed up anew."""
        self.batch: dict[bytes, Payload] = {}
        """The last batch that wrote own copies: each has a dictionary of its own."""
        self.pending: dict[bytes, Payload | Missing] = {}
        """What stood under the keys that it writes, before it; empty once that is counted."""
        self.doubts = 0
        """Leaves that became wrong, in all."""
        self.unknown: list[bytes] = []
        """Disk keys that were written over what nobody knows: the quarantine takes them."""
        self.mismatches = 0
        """Leaves that were right, and not what the disk has, in all: this must stay 0."""
        # The walk that is under way: of the leaves from ``_leaf`` up to ``_until``.
        self._leaf = self._until = 0
        self.position = self.end = b""
        """The disk key up to which the walk that is under way has counted, and its last one."""
        self._sum = 0
        """What was counted of ``_leaf``."""
        self._scanning = False
        self._written: dict[bytes, int] = {}
        self._redo: set[int] = set()
        """Leaves of the walk that came into doubt on its way."""

    # -- what others ask ---------------------------------------------------------------------------

    def leaf_of(self, data_key: bytes) -> int:
        return int.from_bytes(data_key[:3], "big") >> self._shift

    def partition_of(self, leaf: int) -> int:
        return leaf >> self._fold

    def leaves_of(self, partition: int) -> range:
        """Return the numbers of a partition's leaves."""
        first = partition * self._per_partition
        return range(first, first + self._per_partition)

    def first_key(self, leaf: int) -> bytes:
        """Return the least data key that a leaf can have; of the one behind the last leaf, a key
        behind all others.
        """
        if leaf >= self.size:
            return _BEHIND_ALL
        return (leaf << self._shift).to_bytes(3, "big") + bytes(5)

    def entry(self, data_key: bytes, record: bytes) -> int:
        """Return what one copy adds to its leaf; 0 for none."""
        seed = int.from_bytes(data_key[:8], "big") ^ self._seed
        return _hash(record, seed) if record else 0

    def whole(self, partition: int) -> bool:
        """Say whether every leaf of a partition is right."""
        self._settle()
        first = partition * self._per_partition
        return self._flags.find(WRONG, first, first + self._per_partition) < 0

    def root(self, partition: int) -> int:
        """Return the sum of a partition's leaves; it means something only where they are right."""
        self._settle()
        if self._stale[partition]:
            self._stale[partition] = 0
            self._roots[partition] = sum(self.leaves(partition)) & _MASK
        return self._roots[partition]

    def leaves(self, partition: int) -> array[int]:
        """Return a copy of a partition's leaves, in order; see ``leaves_of``."""
        self._settle()
        first = partition * self._per_partition
        return self._leaves[first : first + self._per_partition]

    def leaf(self, leaf: int) -> int:
        self._settle()
        return self._leaves[leaf]

    def is_right(self, leaf: int) -> bool:
        self._settle()
        return self._flags[leaf] != WRONG

    @property
    def wrong(self) -> int:
        """How many leaves are wrong."""
        self._settle()
        return self._flags.count(WRONG)

    @property
    def any_wrong(self) -> bool:
        self._settle()
        self._may_be_wrong = self._may_be_wrong and self._flags.find(WRONG) >= 0
        return self._may_be_wrong

    # -- what is written ---------------------------------------------------------------------------

    def begin_batch(self, batch: dict[bytes, Payload]) -> None:
        """Own copies are written in a new batch: the one before is on the disk."""
        self._count()
        self.batch = batch

    def take_back(self, batch: dict[bytes, Payload]) -> None:
        """This batch was not written."""
        if batch is self.batch:
            self.pending = {}

    def _settle(self) -> None:
        """Count the last batch, if it is on the disk."""
        if self.pending and self._out.writes is not self.batch:
            self._count()

    def _count(self) -> None:
        """Bring the leaves from what each key of the last batch had to what it has now."""
        pending, self.pending = self.pending, {}
        batch, seed, shift = self.batch, self._seed, self._shift + _BELOW
        leaves, flags, stale, fold = self._leaves, self._flags, self._stale, self._fold
        for key, before in pending.items():
            (place,) = _place(key)
            own = place ^ seed
            payload = batch[key]
            new = _hash(payload[8:], own) if payload else 0
            if before is MISSING:
                old = UNKNOWN
                self.unknown.append(key)
            else:
                old = _hash(before[8:], own) if before else 0  # type: ignore[index]
            leaf = place >> shift
            if old < 0 or flags[leaf]:
                self._change(leaf, key, old, new)
            else:
                leaves[leaf] = (leaves[leaf] + new - old) & _MASK
                stale[leaf >> fold] = 1

    def doubt(self, leaf: int) -> None:
        """A leaf may be wrong: it is made anew, and is not compared until then."""
        if self._flags[leaf] != WRONG:
            self.doubts += 1
            self._flags[leaf] = WRONG
            self._may_be_wrong = True
        if self._leaf <= leaf < self._until:
            self._redo.add(leaf)

    def _change(self, leaf: int, disk_key: bytes, old: int, new: int) -> None:
        """What a copy adds changes from ``old``, which may be unknown, in a leaf that is wrong or
        watched.
        """
        known = old >= 0
        if self._flags[leaf] != WRONG and known:
            self._leaves[leaf] = (self._leaves[leaf] + new - old) & _MASK
            self._stale[leaf >> self._fold] = 1
        walked = self._leaf <= leaf < self._until
        if walked and disk_key >= self.position:
            if self._scanning:
                self._written[disk_key] = new
            if not known and self._flags[leaf] != WRONG:
                self.doubt(leaf)
        elif not known:
            self.doubt(leaf)
        elif walked:
            self._sum += new - old

    def spoilt(self, leaf: int) -> None:
        """The walk that is under way has shown a damaged copy in a leaf, which is about to be
        counted without it: that it is another then is no wonder.
        """
        if self._flags[leaf] == WATCHED:
            self._flags[leaf] = WRONG
            self._may_be_wrong = True

    def in_place_of(self, disk_key: bytes, found: Damaged) -> bytes | Damaged | None:
        """Return what counts of a copy that a range shows as damaged, if it was written since the
        range was asked for; None if it was not, and somebody has to see to it.
        """
        self._settle()
        if disk_key in self._written:
            return found  # this wins over whatever the range has shown
        if disk_key not in self.pending:
            return None
        before = self.pending[disk_key]  # to which the batch will add the difference
        return before if isinstance(before, bytes) else found

    # -- making leaves anew ------------------------------------------------------------------------

    def next_wrong(self, after: int) -> tuple[int, int]:
        """Return the first run of wrong leaves at or behind ``after``, else the first one of all:
        (first, the one behind its last); (0, 0) if there is none.
        """
        self._settle()
        if not self.any_wrong:
            return 0, 0
        first = self._flags.find(WRONG, after)
        if first < 0:
            first = self._flags.find(WRONG)
        ends = [at for flag in (RIGHT, WATCHED) if (at := self._flags.find(flag, first)) >= 0]
        return first, min(ends, default=self.size)

    def next_right(self, after: int, most: int) -> tuple[int, int]:
        """Return the first run of right leaves at or behind ``after``, no more than ``most`` of
        them: (first, the one behind its last); (the number of leaves, twice) if there is none.
        """
        self._settle()
        first = self._flags.find(RIGHT, after)
        if first < 0:
            return self.size, self.size
        until = min(self.size, first + most)
        wrong = self._flags.find(WRONG, first, until)
        return first, wrong if wrong >= 0 else until

    def begin(self, first: int, until: int) -> None:
        """Begin a walk of these leaves: none other may be under way."""
        check(self._leaf == self._until, "one walk at a time", leaf=self._leaf)
        self._settle()
        self._leaf, self._until = first, until
        self.position, self.end = OWN + self.first_key(first), OWN + self.first_key(until)
        self._sum = 0
        self._redo.clear()
        self._flags[first:until] = self._flags[first:until].translate(_WATCH)

    def scanning(self) -> None:
        """The next range, from ``position`` on, is asked for now."""
        self._settle()
        self._scanning = True
        self._written.clear()

    def give_up(self) -> int:
        """End a walk before its end: its leaves are what they were. Return the first one that was
        not counted.
        """
        self._settle()
        first, until = self._leaf, self._until
        self._flags[first:until] = self._flags[first:until].translate(_UNWATCH)
        self._leaf = self._until = 0
        self._scanning = False
        self._written.clear()
        return first

    def take(self, pairs: Sequence[tuple[bytes, bytes | Damaged]], *, more: bool) -> bool:
        """Count what a range has shown; return whether the walk is over. A copy that is damaged
        adds nothing.
        """
        check(self._scanning, "a range was asked for")
        self._settle()
        self._scanning = False
        end = pairs[-1][0] + b"\0" if more else b""
        counted: Counted = pairs
        if self._written:
            counted = self._with_written(pairs, end)
        first, last = self._leaf, self._until - 1
        if more:
            last = self.leaf_of(end[len(OWN) :])
        if self._all_wrong(first, last + 1):
            self._sum_up(counted, first, last + 1)
        else:
            self._compare(counted)
        if more:
            self.position = end
            return False
        self._finish(self._leaf, self._sum)
        self._finish_empty(self._leaf + 1, self._until)
        self._leaf = self._until = 0
        return True

    def _all_wrong(self, first: int, until: int) -> bool:
        """Say whether all these leaves are wrong, and may be right when they are counted."""
        if self._flags.count(WRONG, first, until) < until - first:
            return False
        return not any(first <= leaf < until for leaf in self._redo)

    def _sum_up(self, counted: Counted, first: int, until: int) -> None:
        """Count what came of wrong leaves: a rebuild is mostly this loop. All but the last one are
        right after it.
        """
        leaf, total = first, self._sum
        seed, shift, leaves = self._seed, self._shift + _BELOW, self._leaves
        leaves[first:until] = array("Q", bytes(8 * (until - first)))
        for key, found in counted:
            (place,) = _place(key)
            if place >> shift != leaf:
                leaves[leaf] = total & _MASK
                leaf, total = place >> shift, 0
            if type(found) is bytes:
                total += _hash(found[8:], place ^ seed)
            elif type(found) is int:
                total += found
        self._leaf, self._sum = leaf, total
        self._make_right(first, leaf)

    def _make_right(self, first: int, until: int) -> None:
        self._flags[first:until] = bytes(until - first)
        begin, end = first >> self._fold, (until >> self._fold) + 1
        end = min(end, len(self._stale))
        self._stale[begin:end] = b"\1" * (end - begin)

    def _compare(self, counted: Counted) -> None:
        """Count what came of leaves of which some are right."""
        leaf, total = self._leaf, self._sum
        seed, shift = self._seed, self._shift + _BELOW
        for key, found in counted:
            (place,) = _place(key)
            at = place >> shift
            if at != leaf:
                self._finish(leaf, total)
                self._finish_empty(leaf + 1, at)
                leaf, total = at, 0
            if type(found) is bytes:
                total += _hash(found[8:], place ^ seed)
            elif type(found) is int:
                total += found
        self._leaf, self._sum = leaf, total

    def _with_written(
        self, pairs: Sequence[tuple[bytes, bytes | Damaged]], end: bytes
    ) -> list[tuple[bytes, bytes | Damaged | int]]:
        """Return what counts of a range: what was written since it was asked for wins."""
        counted: dict[bytes, bytes | Damaged | int] = dict(pairs)
        for disk_key, entry in self._written.items():
            if not end or disk_key < end:
                counted[disk_key] = entry
        self._written.clear()
        return sorted(counted.items(), key=_first)

    def _finish(self, leaf: int, total: int) -> None:
        """A leaf was counted to its end."""
        if leaf in self._redo:
            return
        total &= _MASK
        if self._flags[leaf] == WATCHED and self._leaves[leaf] != total:
            self.mismatches += 1
        self._leaves[leaf] = total
        self._flags[leaf] = RIGHT
        self._stale[leaf >> self._fold] = 1

    def _finish_empty(self, first: int, until: int) -> None:
        """These leaves have nothing in them."""
        if first < until and self._all_wrong(first, until):
            self._leaves[first:until] = array("Q", bytes(8 * (until - first)))
            self._make_right(first, until)
            return
        for leaf in range(first, until):
            self._finish(leaf, 0)

    # -- from one run to the next ------------------------------------------------------------------

    def empty(self) -> None:
        """There is no owner's copy on the disk: every leaf is right."""
        self._leaves = array("Q", bytes(8 * self.size))
        self._flags = bytearray(self.size)
        self._stale = bytearray(b"\1") * len(self._stale)

    def save(self) -> bytes:
        """Return all that is known, for ``load`` in the next run. Everything that was written must
        be on the disk by then, and what is not must have been taken back.
        """
        self._settle()
        return self.shape + self._leaves.tobytes() + self._flags.translate(_ONLY_WRONG)

    def load(self, saved: bytes) -> bool:
        """Take what an earlier run has saved; say whether it fits."""
        fits = len(saved) == 8 + 9 * self.size and saved[:8] == self.shape
        if fits:
            self._leaves = array("Q", saved[8 : 8 + 8 * self.size])
            wrong = saved[8 + 8 * self.size :]
            self._flags = bytearray(wrong.replace(b"\1", bytes((WRONG,))))
            self._may_be_wrong = True
            self._stale = bytearray(b"\1") * len(self._stale)
        return fits


def seed_of(context_key: bytes) -> int:
    """Return the seed of a cluster's trees: clients do not know it."""
    return int.from_bytes(context_key[8:16], "big")


def _first(pair: tuple[bytes, object]) -> bytes:
    return pair[0]
