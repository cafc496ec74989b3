"""A new owner takes a partition over (Dynamo 4.9, 6.2).

    copy from each source -> [ask the one that serves in our stead to give up -> walk it again]
    -> proved

A walk goes through the partition in slices of the own disk: the source is asked for the same range
unless it has the same, and what comes is merged and fsynced before the next slice. So a walk that
is begun again carries only what differs.

With a source that gives way there is one source, and it is walked twice: the second time it stands
still. Without one all that serve or keep the partition are walked, once each; nobody gives way, so
writes go on to them, and to this node as a stand-in for itself.

Whatever goes wrong ends it: ``Moves`` begins anew later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.cluster.holdings import bits
from everwrite.core.local import Local, Request
from everwrite.core.messages.moving import GaveUp, GiveUp, Pull, Slice
from everwrite.core.messages.requests import (
    BUSY,
    FOUND,
    NOT_HERE,
    SAME,
    STORED,
    SYNC_YES,
    Store,
    StoreReply,
)
from everwrite.core.moving.progress import Progress
from everwrite.core.moving.ranges import WINDOW, Item, Scanned, digest_of, items_of, scan_of
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes

if TYPE_CHECKING:
    from everwrite.core.moving.moves import Moves


class Gain(Request):
    """One partition on its way to this node."""

    __slots__ = (
        "_after",
        "_held_ms",
        "_items",
        "_last",
        "_local",
        "_moves",
        "_progress_ms",
        "_refused",
        "_retry_ms",
        "_sent",
        "_sources",
        "_spoilt",
        "_step",
        "_storing",
        "_until",
        "_waits_ms",
        "_window",
        "bytes",
        "gives_way",
        "keys",
        "partition",
        "phase",
        "rid",
        "since_ms",
    )

    def __init__(
        self, local: Local, moves: Moves, partition: int, sources: list[bytes], gives_way: bool
    ) -> None:
        self._local = local
        self._moves = moves
        self._sources = sources
        self.partition = partition
        self.gives_way = gives_way
        """Whether the one source is to give way."""
        self.phase = "copies"
        self.keys = self.bytes = 0
        self.rid = 0
        self.since_ms = self._progress_ms = local.now
        self._after = self._until = self._last = b""
        self._items: list[Item] = []
        """Of the slice that is being merged."""
        self._sent = self._storing = 0
        """How many of these were given to the own replica, and have not been acknowledged."""
        self._window = WINDOW
        self._refused = False
        self._waits_ms = 0
        """Until when it waits, before it reads or merges on; 0: it does not."""
        self._retry_ms = 0
        """When it is looked next whether there was no progress for too long."""
        self._held_ms = 0
        """Since when it waits for the pace, to read or to merge more: that is no silence."""
        self._step = 0
        """The question that is asked now: only its answer is heard, and once."""
        self._spoilt = False
        """Whether the source could not read all that it should have."""

    @property
    def sources(self) -> list[bytes]:
        """From whom it is still to be copied; the first one is asked now."""
        return self._sources

    @property
    def source(self) -> bytes:
        return self._sources[0] if self._sources else b""

    def begin(self) -> None:
        local = self._local
        self._retry_ms = local.now + local.config.move_retry_ms
        self.rid = local.open_request(self, self._retry_ms)
        local.background += 1
        self._walk()

    # -- a walk ------------------------------------------------------------------------------------

    def _walk(self) -> None:
        """Begin to go through the partition with the first of the sources."""
        if not self._sources:
            self._moves.prove(self)
            return
        self._after = b""
        self.keys = 0
        self._read()

    def _read(self) -> None:
        """Read the next slice of the own disk, when the pace allows it."""
        local, config = self._local, self._local.config
        wait_ms = self._moves.pace_ms() or local.pace.wait_ms("moves", local.now)
        if wait_ms:
            # However long: what is owed for a slice would be owed by the next try too.
            self._held_ms = self._held_ms or local.now
            self._wait(wait_ms)
            return
        self._held_ms = 0
        self._progress_ms = local.now
        partitions = local.routes.placement.partitions
        local.out.scans.append(
            scan_of(
                self.rid,
                self.partition,
                partitions,
                self._after,
                b"",
                config.slice_keys,
                config.slice_bytes,
            )
        )

    def scanned(self, scanned: Scanned) -> None:
        items, damaged = items_of(scanned, self._local.records)
        self._until = scanned.pairs[-1][0][1:] if scanned.more else b""
        self.keys += len(items)
        digest = b"" if damaged else digest_of(items)
        self._step += 1
        pull = Pull(self.rid, self.partition, self._after, self._until, digest, self._step)
        self._local.out.send(self.source, pull)

    def unscanned(self) -> None:
        """The own disk would not give the slice."""
        self.end("its own disk cannot be read")

    def sliced(self, source: Place, reply: Slice) -> None:
        if source != self.source or reply.step != self._step:
            return
        self._step += 1
        local = self._local
        self._progress_ms = local.now
        if reply.status == SAME:
            self._go_on(self._until)
        elif reply.status == FOUND:
            self._last = reply.last
            self._spoilt |= reply.damaged
            size = sum(len(key) + len(record) for key, record in reply.items)
            self.bytes += size
            self._moves.took(len(reply.items), size)
            self._items = reply.items
            self._store()
        elif reply.status == BUSY:
            self._wait(local.config.move_every_ms)
        elif reply.status == NOT_HERE and not self._held_by(self.source):
            self._sources.pop(0)  # as it was thought: asked only to be sure
            self._walk()
        else:
            sometimes("a source of a partition cannot give it")
            self.end("its source cannot give it")

    def _held_by(self, node: bytes) -> bool:
        """Say whether a node says of itself that it keeps the partition."""
        member = self._local.members.get(node)
        if member is None:
            return True
        return (bits(member.keeps) | bits(member.serves)) >> self.partition & 1 == 1

    def _store(self) -> None:
        """Merge what came, so many records at a time; all of it again if some were refused."""
        self._sent = self._storing = 0
        self._refused = False
        if not self._items:
            self._go_on(self._last)
            return
        self._store_some()

    def _store_some(self) -> None:
        """Merge as many records as are one slice of work, when the pace allows it."""
        local = self._local
        wait_ms = local.pace.wait_ms("moves", local.now)
        if wait_ms:
            self._held_ms = self._held_ms or local.now
            self._wait(wait_ms)
            return
        if self._held_ms:
            self._progress_ms += local.now - self._held_ms
            self._held_ms = 0
        for key, record in self._items[self._sent : self._sent + self._window]:
            self._sent += 1
            self._storing += 1
            local.out.send(local.me, Store(self.rid, key, record, 0, SYNC_YES, b"", True))

    def stored(self, source: Place, reply: StoreReply) -> None:
        """One record of the slice is merged here and fsynced, or not."""
        if source != self._local.me or not self._storing:
            return
        self._storing -= 1
        if reply.status == NOT_HERE:
            self.end("it is to own it no more")
            return
        if reply.status != STORED:
            self._refused = True
        if self._storing:
            return
        if self._sent < len(self._items) and not self._refused:
            self._progress_ms = self._local.now
            self._store_some()
            return
        if not self._refused:
            self._progress_ms = self._local.now
            self._items = []
            self._go_on(self._last)
            return
        sometimes("a slice of a partition cannot be written at once")
        if self._window > 1:
            self._progress_ms = self._local.now  # fewer at a time may do
        self._window = max(1, self._window // 4)
        self._sent = 0
        self._refused = False
        self._wait(self._local.config.move_every_ms)

    def _go_on(self, after: bytes) -> None:
        """A slice is the same on both sides, or is here; empty: it was the last one."""
        if after:
            self._after = after
            self._read()
        elif not self.gives_way:
            self._sources.pop(0)
            self._walk()
        elif self.phase == "copies":
            self.phase = "takes over"
            self._local.out.send(self.source, GiveUp(self.rid, self.partition))
        elif self._spoilt:
            # It may have acknowledged what it cannot read, and gives way: all others are asked next
            # time, since it serves the partition no more.
            sometimes("a source of a partition has damaged records")
            self.end("its source has damaged records")
        else:
            self._moves.prove(self)

    def gave_up(self, source: Place, reply: GaveUp) -> None:
        if source != self.source or self.phase != "takes over":
            return
        if not reply.done:
            self.end("who serves it has another view of the members")
            return
        self.phase = "proves"
        self._spoilt = False
        self._walk()

    # -- its end -----------------------------------------------------------------------------------

    def lost(self, peer: bytes) -> None:
        if peer in self._sources:
            sometimes("a source of a partition goes down while it is copied")
            self.end("its source went down")

    def wake(self) -> None:
        local = self._local
        if self._waits_ms and local.now >= self._waits_ms:
            self._waits_ms = 0
            if self._items:
                self._store_some()
            else:
                self._read()
        if local.now < self._retry_ms:
            return
        held = local.now - self._held_ms if self._held_ms else 0
        silent = local.now - self._progress_ms - held
        if silent >= local.config.move_retry_ms:
            sometimes("a step of a move is not answered")
            self.end("its own disk takes no writes" if self._items else "its source is silent")
            return
        self._retry_ms = local.now + local.config.move_retry_ms - silent
        local.wake_at(self.rid, self._retry_ms)

    def _wait(self, wait_ms: int) -> None:
        """Go on after a while."""
        self._waits_ms = self._local.now + wait_ms
        self._local.wake_at(self.rid, self._waits_ms)

    def end(self, why: str) -> None:
        """Give it up for now."""
        self._close()
        self._moves.ended(self, why)

    def _close(self) -> None:
        """Leave the table of requests."""
        local = self._local
        if local.requests.pop(self.rid, None) is not None:
            local.background -= 1

    def progress(self) -> Progress:
        """Return how far it is."""
        return Progress(
            self.partition,
            "gain",
            self.source,
            self.phase,
            self.keys,
            self.bytes,
            self.since_ms,
            "",
        )
