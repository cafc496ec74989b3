"""A node that owns a partition no more sees that all owners have what it has, and lets it go.

    read a slice -> ask each owner whether it has the same -> send the records to who has not, and
    wait for their fsync -> remove the slice -> the next one; nothing left: let go

It begins only when all owners serve the partition, and this node takes no more copies of it: what
it has stands still. Each slice is removed only when every owner has it for good, so whatever goes
wrong leaves copies too many, never too few; ``Moves`` begins anew later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.local import Local, Request
from everwrite.core.messages.moving import Match, Matched
from everwrite.core.messages.requests import (
    BUSY,
    FOUND,
    SAME,
    STORED,
    SYNC_YES,
    UNREADABLE,
    Store,
    StoreReply,
)
from everwrite.core.moving.progress import Kind, Progress
from everwrite.core.moving.ranges import WINDOW, Item, Scanned, digest_of, items_of, scan_of
from everwrite.core.outbox import Place, node_at
from everwrite.core.probes import sometimes
from everwrite.core.records import OWN
from everwrite.core.trees.mend import mend

if TYPE_CHECKING:
    from everwrite.core.moving.moves import Moves


REFUSALS_MAX = 50
"""Tries to give one owner a slice, ten seconds in all, before another one is begun with."""


class Handed(Request):
    """One record on its way to one owner. Its number is its own: so an ack that comes twice counts
    once, and one that comes late counts for nothing.
    """

    __slots__ = ("_local", "_owner", "_rid", "_shed")

    def __init__(self, local: Local, shed: Shed, owner: bytes) -> None:
        self._local = local
        self._shed = shed
        self._owner = owner
        self._rid = local.open_request(self, local.now + local.config.move_retry_ms)
        local.background += 1

    @property
    def rid(self) -> int:
        return self._rid

    def stored(self, source: Place, reply: StoreReply) -> None:
        if source == self._owner:
            self.close()
            self._shed.handed(self._owner, self, reply.status)

    def wake(self) -> None:
        """Wait on: how long an owner may say nothing the shed itself watches."""
        local = self._local
        local.wake_at(self._rid, local.now + local.config.move_retry_ms)

    def close(self) -> None:
        if self._local.requests.pop(self._rid, None) is not None:
            self._local.background -= 1


class Lacking:
    """How far one owner is with the records of a slice."""

    __slots__ = ("refused", "sent", "waiting")

    def __init__(self) -> None:
        self.sent = 0
        self.waiting: set[Handed] = set()
        self.refused = False


class Shed(Request):
    """One partition that leaves this node; or one that it kept before it owned it, and offers."""

    __slots__ = (
        "_again",
        "_again_ms",
        "_asked",
        "_busy",
        "_damaged",
        "_held",
        "_held_ms",
        "_items",
        "_lacking",
        "_local",
        "_moves",
        "_owners",
        "_progress_ms",
        "_read_ms",
        "_refusals",
        "_removed",
        "_retry_ms",
        "_step",
        "_until",
        "_waits_ms",
        "_window",
        "bytes",
        "keys",
        "offers",
        "partition",
        "placed",
        "rid",
        "since_ms",
    )

    def __init__(
        self,
        local: Local,
        moves: Moves,
        partition: int,
        owners: list[bytes],
        *,
        offers: bool = False,
    ) -> None:
        self._local = local
        self._moves = moves
        self._owners = owners
        self.placed = local.routes.placed
        """By which placement it began."""
        self.offers = offers
        """Whether this node owns the partition too: it gives what others lack, and keeps it."""
        self.partition = partition
        self.keys = self.bytes = 0
        self.rid = 0
        self.since_ms = self._progress_ms = local.now
        self._items: list[Item] = []
        self._read_ms = 0
        """When these were read from the disk at the earliest, by ``Local.stamp``."""
        self._damaged: list[bytes] = []
        self._asked: dict[bytes, int] = {}
        """Owners that have not said whether they have the slice, and the question to each: only its
        answer is heard, and once. 0: it is to be asked again."""
        self._step = 0
        self._lacking: dict[bytes, Lacking] = {}
        """Owners that get its records."""
        self._busy: set[bytes] = set()
        """Owners that were too busy to compare, and are asked once more."""
        self._until = b""
        self._again: set[bytes] = set()
        """Owners that were busy, and get them once more."""
        self._again_ms = 0
        self._removed = b""
        """The last disk key of the slice that was removed, or offered, before this one."""
        self._held: set[bytes] = set()
        """Owners that get more when the pace allows it; empty bytes: more is to be read."""
        self._held_ms = 0
        """Since when that is so."""
        self._waits_ms = 0
        """When the pace is asked again."""
        self._retry_ms = 0
        """When it is looked next whether there was no progress for too long."""
        self._window = WINDOW
        self._refusals = 0

    def begin(self) -> None:
        local = self._local
        self._retry_ms = local.now + local.config.move_retry_ms
        self.rid = local.open_request(self, self._retry_ms)
        local.background += 1
        self._read()

    def _read(self) -> None:
        local, config = self._local, self._local.config
        self._progress_ms = local.now
        if not self._may_go_on(b""):
            return
        partitions = local.routes.placement.partitions
        keys, size = config.slice_keys, config.slice_bytes
        self._read_ms = local.stamp
        after = self._removed[1:] if self.offers else b""
        scan = scan_of(self.rid, self.partition, partitions, after, b"", keys, size)
        local.out.scans.append(scan)

    def scanned(self, scanned: Scanned) -> None:
        if not self._moves.may_go_on(self):
            sometimes("a partition is not let go after all")
            self.end("its owners changed")
            return
        self._items, self._damaged = items_of(scanned, self._local.records)
        if not scanned.pairs:
            self._close()
            self._moves.let_go(self)
            return
        if scanned.pairs[0][0] <= self._removed:  # at full speed it would go on for ever
            self.end("its own disk takes no writes")
            return
        self._progress_ms = self._local.now
        self._until = scanned.pairs[-1][0][1:]
        for owner in self._owners:
            self._ask(owner)

    def _ask(self, owner: bytes) -> None:
        # The owners have what was removed here: that is not to be compared again.
        after, until = self._removed[1:], self._until
        self._step += 1
        self._asked[owner] = self._step
        digest = digest_of(self._items)
        match = Match(self.rid, self.partition, after, until, digest, self._step)
        self._local.out.send(owner, match)

    def unscanned(self) -> None:
        self.end("its own disk cannot be read")

    def matched(self, source: Place, reply: Matched) -> None:
        source = node_at(source)
        if not reply.step or self._asked.get(source) != reply.step:
            return
        local = self._local
        self._progress_ms = local.now
        del self._asked[source]
        if reply.status == FOUND and self._items:
            sometimes("an owner lacks what a node has that lets its partition go")
            self._lacking[source] = Lacking()
            self.bytes += sum(len(key) + len(record) for key, record in self._items)
            self._give(source)
        elif reply.status == BUSY:
            sometimes("an owner is too busy to compare a range")
            self._asked[source] = 0
            self._busy.add(source)
            self._later()
            return
        elif reply.status not in (SAME, FOUND):
            self.end("an owner cannot say what it has")
            return
        self._check_slice()

    def _give(self, owner: bytes) -> None:
        """Send an owner the records of the slice, so many at a time, when the pace allows it."""
        lacking = self._lacking[owner]
        if lacking.waiting or not self._may_go_on(owner):
            return
        while lacking.sent < len(self._items) and len(lacking.waiting) < self._window:
            key, record = self._items[lacking.sent]
            lacking.sent += 1
            handed = Handed(self._local, self, owner)
            lacking.waiting.add(handed)
            store = Store(handed.rid, key, record, 0, SYNC_YES, sent_ms=self._read_ms)
            self._local.out.send(owner, store)

    def _may_go_on(self, owner: bytes) -> bool:
        """Say whether a slice of work may be done now; if not, it is come back to."""
        local = self._local
        wait_ms = local.pace.wait_ms("moves", local.now)
        if not wait_ms:
            return True
        self._held_ms = self._held_ms or local.now
        self._held.add(owner)
        if self._waits_ms <= local.now:
            self._waits_ms = local.now + wait_ms
            local.wake_at(self.rid, self._waits_ms)
        return False

    def handed(self, owner: bytes, record: Handed, status: int) -> None:
        """An owner has a record for good, or says why not."""
        lacking = self._lacking[owner]
        lacking.waiting.remove(record)
        if status != STORED:
            sometimes("an owner does not take what a node has that lets its partition go")
            lacking.refused = True
            if status == UNREADABLE:
                if self._window == 1:  # now it is known which one
                    mend(self._local, *self._items[lacking.sent - 1], self._read_ms)
                self._window = 1
        self._progress_ms = self._local.now
        if lacking.waiting:
            return
        if lacking.sent < len(self._items) and not lacking.refused:
            self._give(owner)
            return
        if lacking.refused:  # all of it once more, in smaller parts
            self._refusals += 1
            if self._refusals > REFUSALS_MAX:
                self.end("an owner does not take it")
                return
            self._window = max(1, self._window // 4)
            self._again.add(owner)
            self._later()
            return
        del self._lacking[owner]
        self._check_slice()

    def _later(self) -> None:
        """Come back to who was busy."""
        local = self._local
        self._again_ms = local.now + local.config.move_every_ms
        local.wake_at(self.rid, self._again_ms)

    def _check_slice(self) -> None:
        """If every owner has the slice for good: remove it here, and go on."""
        if self._asked or self._lacking:
            return
        if not self._moves.may_go_on(self):
            self.end("its owners changed")
            return
        if not self.offers:
            self._remove()
        self._removed = OWN + max([*(key for key, _ in self._items), *self._damaged])
        self.keys += len(self._items)
        self._moves.gave(len(self._items), 0)
        self._items, self._damaged = [], []
        self._read()

    def _remove(self) -> None:
        copies = self._local.copies
        for key, record in self._items:
            copies.drop(key, record)
        for key in self._damaged:  # nobody can read it; the owners have their own
            copies.write(key, b"", None, None)

    def lost(self, peer: bytes) -> None:
        if peer in self._owners:
            self.end("an owner went down")

    def wake(self) -> None:
        local = self._local
        if self._held and local.now >= self._waits_ms:
            self._progress_ms += local.now - self._held_ms
            self._held_ms = 0
            held, self._held = self._held, set()
            for owner in sorted(held):
                if owner:
                    self._give(owner)
                else:
                    self._read()
        if local.now >= self._again_ms:
            busy, self._busy = self._busy, set()
            for owner in sorted(busy):
                self._ask(owner)
            again, self._again = self._again, set()
            for owner in sorted(again):
                self._lacking[owner] = Lacking()
                self._give(owner)
        if local.now < self._retry_ms:
            return
        waited_ms = local.now - self._held_ms if self._held_ms else 0
        silent = local.now - self._progress_ms - waited_ms
        if silent >= local.config.move_retry_ms:
            sometimes("an owner does not say what it has of a partition that is let go")
            self.end("an owner is silent")
            return
        self._retry_ms = local.now + local.config.move_retry_ms - silent
        local.wake_at(self.rid, self._retry_ms)

    def end(self, why: str) -> None:
        self._close()
        self._moves.ended(self, why)

    def progress(self) -> Progress:
        """Return how far it is."""
        kind: Kind = "offer" if self.offers else "shed"
        return Progress(
            self.partition, kind, b"", "compares", self.keys, self.bytes, self.since_ms, ""
        )

    def _close(self) -> None:
        local = self._local
        if local.requests.pop(self.rid, None) is not None:
            local.background -= 1
        for lacking in self._lacking.values():
            for record in lacking.waiting:
                record.close()
