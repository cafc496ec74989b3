"""The driver: one node's core between its sockets and its disk, a tick at a time.

All that arrived in one turn of the loop is handled; then ``tick`` empties the outbox in the order
that core/outbox.py gives: one batch to the store, one frame per destination, the acks that wait for
an fsync to the disk's thread. Nothing is done per message that can be done per tick.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from everwrite.core.errors import EverwriteError, InvariantError, StorageError, SyncFailed
from everwrite.core.messages.channels import Spread
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.listing import List
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Ask, Fetch, Get, Put, Touch
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.node import Node, no_business
from everwrite.core.outbox import Place
from everwrite.core.pace.door import Asked
from everwrite.core.records import Damaged
from everwrite.core.tally import Tally
from everwrite.server.disk import Ack, Disk, Found
from everwrite.server.logs import log_of
from everwrite.server.tracing import Tracer
from everwrite.server.trees import TREES, last_words
from everwrite.storage.store import Store, Unreadable

WAKE_EVERY_S = 0.02
"""How often time-outs are looked at: finer than any of them."""
PLACE_NS = 4_000_000
PLACE_PAUSE_S = 0.004
"""A placement is made for so long at a time, or for one step, which may take a few milliseconds
more; and for so long others have the loop."""
WAKE_NS = 21_000_000
"""By when that surely is so on a loop with nothing else to do, whose timers count milliseconds."""

TURN_NS = 4_000_000
"""So long in a turn of the loop what clients ask is begun; the rest waits (core/pace), and what
other nodes say comes first."""
AT_ONCE = 64
"""Messages of one frame that are handled without a look at the time: two or three milliseconds."""

STALL_MS = 200
"""A node that did not look at the time for so long did not run: it was paused, or its machine was.
Less than a client waits before it asks another node."""
STALL_TAIL_MS = 250
"""For how long after a stall what arrives may have lain unread: it comes in pieces."""


_WAIT = frozenset((Fetch, Get, Put, Touch, List))
"""What waits at the door; questions to the shell do not."""


class Line(Protocol):
    """Where a driver sends messages: a connection, or a client in this process."""

    def send(self, messages: list[Message]) -> None: ...


class Driver:
    """See the module."""

    def __init__(self, loop: asyncio.AbstractEventLoop, node: Node, store: Store) -> None:
        self.loop = loop
        self.node = node
        self.me = node.local.me
        self.log = log_of(node.local.members.me.name, self.me)
        self.lines: dict[Place, Line] = {}
        self.deaf_to: set[Place] = set()
        """Peers whose frames are dropped on arrival (development clusters)."""
        self.mute_to: set[Place] = set()
        """Peers to whom nothing is sent (development clusters)."""
        self.dropped = 0
        """Messages for which there was no connection: lost, as in any network."""
        self.ticks = self.frames_in = self.messages_in = 0
        """How well work is gathered: messages per frame, frames per tick."""
        self.keys_written = self.batches = 0
        self.lag = Tally()
        """Microseconds by which the look at the time came later than it was due."""
        self.turns = Tally()
        """Microseconds for which what clients sent was in this process until its tick was over."""
        self.tracer = Tracer(node.local)
        self.ask: Callable[[Place, Ask], None] = lambda place, ask: None
        self.heard: Callable[[list[tuple[bytes, Spread]]], None] = self._to_nobody
        """Takes what is published for this node's subscribers."""
        self.members_changed: Callable[[], None] = lambda: None
        self.ticked: Callable[[], None] | None = None
        """Hears of the end of each tick, and of the last one's failure."""
        self.fatal: Callable[[EverwriteError], None] = lambda error: None
        self.disk = Disk(
            loop,
            store,
            synced=self._synced,
            loaded=self._loaded,
            failed=self._sync_failed,
            broken=self.broken,
        )
        self._ticking = False
        self._placing: asyncio.TimerHandle | None = None
        self._broken = False
        self._looked = time.monotonic_ns() // 1_000_000
        self._late_until = 0
        self._clock_wrong = False
        self._asked = 0
        """What clients have sent in this turn of the loop."""
        self._turn_ns = 0
        """When the first of it was here."""
        self._lag_us = 0
        """How much later than they were ready things were handled, when that was looked at last."""
        self._wake_ns = 0
        self._members_version = 0
        self._next_place = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look at the time."""
        self._wake()

    def stop(self) -> None:
        """Handle nothing more; finish what the disk is doing and close it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._placing is not None:
            self._placing.cancel()
        self._ticking = True  # for good: no tick will come
        self.lines.clear()
        self.node.clients.door.forget()
        if not self._broken and self.disk.store.durable:
            self._save_trees()
        self.disk.close()

    def _save_trees(self) -> None:
        """Leave the tree to the next run; without it that one makes it anew."""
        try:
            self.disk.write_at_last(TREES, last_words(self.node))
        except StorageError as error:
            self.log.warning("tree not saved", why=f"It will be made anew: {error}")

    @property
    def rests(self) -> bool:
        """Whether nothing of this node is on its way: to the disk, from it, or to anybody."""
        out, records = self.node.out, self.node.local.records
        busy = self._ticking or out or records.parked_count or self.disk.syncing
        return self._broken or not busy

    # -- what happens ------------------------------------------------------------------------------

    def attach(self, line: Line) -> int:
        """Give a client's line its place."""
        self._next_place += 1
        self.lines[self._next_place] = line
        return self._next_place

    def attach_front(self, line: Line) -> int:
        """Give a front of this process, which makes its puts here, its place."""
        place = self.attach(line)
        self.node.clients.fronts.add(place)
        return place

    def detach(self, place: Place) -> None:
        """A client is gone; what is still sent to it is dropped."""
        self.lines.pop(place, None)
        self.node.clients.fronts.discard(place)

    def arrived(self, source: Place, messages: list[AnyMessage]) -> None:
        """Handle what one connection brought; ProtocolError if it had no business to."""
        node = self.node
        now_ns = time.monotonic_ns()
        node.local.now = now = now_ns // 1_000_000
        if now - self._looked > STALL_MS or node.late_ms:
            self._look(now)
        if type(source) is bytes:
            if source in self.deaf_to:
                return
            node.heard(source)
        elif not self._may_begin(now_ns, len(messages)):
            self._line_up(source, messages, now_ns // 1000)
            return
        self.frames_in += 1
        self.messages_in += len(messages)
        if node.local.traced:
            self.tracer.came(source, messages)
        handlers = node.handlers(source)
        try:
            for message in messages:
                handler = handlers.get(type(message))
                if handler is None:
                    raise no_business(message)
                handler(source, message)
        finally:
            if not self._ticking:
                self._ticking = True
                self.loop.call_soon(self._tick)

    def _may_begin(self, now_ns: int, count: int) -> bool:
        """Say whether so many messages of a client may be handled at once."""
        if not self._asked:
            self._turn_ns = now_ns
        elif now_ns - self._turn_ns > TURN_NS:
            return False
        if count > AT_ONCE or self.node.clients.door:
            return False
        self._asked += count
        return True

    def _line_up(self, source: Place, messages: list[AnyMessage], now_us: int) -> None:
        """Let what a client asks wait for its turn; questions to the shell do not wait."""
        node = self.node
        handlers = node.handlers(source)
        self.frames_in += 1
        self.messages_in += len(messages)
        asked: list[Asked] = []
        try:
            for message in messages:
                kind = type(message)
                if kind in _WAIT:
                    asked.append(message)  # type: ignore[arg-type]
                    continue
                handler = handlers.get(kind)
                if handler is None:
                    raise no_business(message)
                handler(source, message)
        finally:
            node.clients.line_up(source, asked, now_us)
            self.soon()

    def _let_in(self) -> None:
        """Begin what waits longest, for some milliseconds of this thread's own time: else, on a
        machine with more to do, what others do in these would be taken from the requests alone.
        """
        node, door, lines = self.node, self.node.clients.door, self.lines
        now_ns, began = time.monotonic_ns(), time.thread_time_ns()
        clients, took = node.clients, node.local.pace.took
        while time.thread_time_ns() - began < TURN_NS:
            node.local.now = now = now_ns // 1_000_000
            for _ in range(AT_ONCE // 2):
                entry = door.next(now_ns // 1000)
                if entry is None:
                    return
                (source, message, came_us, _), verdict = entry
                if source not in lines:  # it is gone
                    continue
                if verdict != "in":
                    node.clients.turn_away(source, (message,), verdict)
                    continue
                waited_us = now_ns // 1000 - came_us
                took("reads", waited_us + self._lag_us, now)
                clients.let_in(source, message, waited_us // 1000)
            now_ns = time.monotonic_ns()

    def peer_lost(self, peer: bytes) -> None:
        """The last connection to a peer broke."""
        self.lines.pop(peer, None)
        self.node.local.now = time.monotonic_ns() // 1_000_000
        self.node.lost(peer)
        self.soon()

    def _to_nobody(self, heard: list[tuple[bytes, Spread]]) -> None:
        for source, spread in heard:
            self.node.channels.handed_on(source, spread.number, 0)

    def soon(self) -> None:
        """Empty the outbox in this turn of the loop."""
        if not self._ticking:
            self._ticking = True
            self.loop.call_soon(self._tick)

    def broken(self, error: BaseException) -> None:
        """Something failed that must not: end the node, rather than go on half dead."""
        if self._broken:
            return
        self._broken = True
        if self.ticked is not None:
            self.ticked()
        self.log.critical("the node cannot go on", why=error, exc_info=error)
        if not isinstance(error, EverwriteError):
            cause, error = (
                error,
                InvariantError(
                    f"The node met an error that it has no answer to ({error!r}).",
                    hint="Restart it; the log has the traceback. Please report it.",
                ),
            )
            error.__cause__ = cause
        self.fatal(error)

    # -- the tick ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        try:
            if self.node.clients.door:
                self._let_in()
            self._empty()
            if self.node.clients.door:
                self.soon()
            if self.ticked is not None:
                self.ticked()
        except BaseException as error:
            self.broken(error)
            raise

    def _empty(self) -> None:
        self._ticking = False
        self.ticks += 1
        node, out, me = self.node, self.node.out, self.me
        while out:
            if out.writes or out.on_write or out.on_sync:
                self._commit()
            if out.reads:
                keys, out.reads = out.reads, []
                if node.local.traces:
                    self.tracer.read(keys, "reads its disk")
                self.disk.read(keys)
            if out.scans:
                scans, out.scans = out.scans, []
                for scan in scans:
                    self.disk.scan(scan, self._scanned)
            while out.asks:  # one by one, so that none is lost with another
                self.ask(*out.asks.pop(0))
            if out.heard:
                heard, out.heard = out.heard, []
                self.heard(heard)
            sends, out.sends = out.sends, {}
            if node.local.traced:
                for place, messages in sends.items():
                    self.tracer.sent(place, messages)
            own = sends.pop(me, None)
            lines = self.lines
            for place, messages in sends.items():
                line = lines.get(place)
                if line is None or (self.mute_to and place in self.mute_to):
                    self.dropped += len(messages)
                else:
                    line.send(messages)
            if own is not None:
                if node.local.traced:
                    self.tracer.came(me, own)
                handlers = node.handlers(me)
                for message in own:
                    handlers[type(message)](me, message)
        node.local.records.turn()
        if self._asked:
            self._answered()
        if node.rounds.members_version != self._members_version:
            self._members_version = node.rounds.members_version
            self.members_changed()

    def _answered(self) -> None:
        """Tell the core how long what clients sent in this turn was with this process."""
        now_ns = time.monotonic_ns()
        took_us = (now_ns - self._turn_ns) // 1000 + self._lag_us
        self.node.local.pace.took("reads", took_us, now_ns // 1_000_000, self._asked)
        self.turns.add(took_us)
        self._asked = 0

    def _commit(self) -> None:
        """Write this tick's batch; then its acks may go, or wait for an fsync."""
        out = self.node.out
        writes, on_write, on_sync = out.writes, out.on_write, out.on_sync
        out.writes, out.on_write, out.on_sync = {}, [], []
        if writes:
            self.batches += 1
            self.keys_written += len(writes)
            began_ns = time.monotonic_ns() if self.node.local.traces else 0
            try:
                self.disk.write(list(writes.items()))
            except StorageError as error:
                self.log.error("write failed", code=error.code, keys=len(writes), why=error)
                self.node.write_failed(writes, on_write + on_sync)
                if isinstance(error, SyncFailed):
                    self.fatal(error)
                return
            if self.node.local.traces:
                self.tracer.wrote(writes, time.monotonic_ns() - began_ns)
        sends = out.sends
        for place, message in on_write:
            queue = sends.get(place)
            if queue is None:
                sends[place] = [message]
            else:
                queue.append(message)
        if on_sync:
            self.disk.sync(on_sync)

    def _synced(self, acks: list[Ack]) -> None:
        self.node.local.now = time.monotonic_ns() // 1_000_000
        sends = self.node.out.sends
        for place, message in acks:
            queue = sends.get(place)
            if queue is None:
                sends[place] = [message]
            else:
                queue.append(message)
        if not self._ticking:
            self._tick()

    def _sync_failed(self, error: StorageError) -> None:
        """An fsync failed: nobody can say what is on the disk. Stop, and let the others
        take over.
        """
        self.log.critical("fsync failed", why=f"Stopping: {error}")
        self.fatal(error)

    def _loaded(self, keys: list[bytes], found: list[Found]) -> None:
        node = self.node
        node.local.now = time.monotonic_ns() // 1_000_000
        if node.local.traces:
            self.tracer.read(keys, "has read its disk")
        for key, payload in zip(keys, found, strict=True):
            if isinstance(payload, Unreadable):
                corrupt, reason = payload.corrupt, payload.reason
                if node.unreadable(key, reason, corrupt=corrupt):
                    self.log.error("unreadable", key=key.hex(), corrupt=corrupt, why=reason)
            else:
                node.loaded(key, payload)
        self.soon()

    def _scanned(self, scan: Scan, found: Scanned | StorageError) -> None:
        self.node.local.now = time.monotonic_ns() // 1_000_000
        if isinstance(found, StorageError):
            self.log.error("unreadable range", start=scan.start.hex(), why=found)
            self.node.unscanned(scan.rid, found.message)
        else:
            for key, payload in found.pairs:
                if isinstance(payload, Damaged) and not self.node.quarantine.knows(key):
                    self.log.error("unreadable", key=key.hex(), corrupt=True, why=payload.reason)
            if self.node.local.traced:
                self.tracer.scanned(scan.rid)
            self.node.scanned(scan.rid, found)
        self.soon()

    def _look(self, now: int) -> None:
        """Take note of the time; after a stall, tell the node that what arrives now may be old."""
        stood_ms, self._looked = now - self._looked, now
        if stood_ms > STALL_MS:
            self.log.warning("stalled", ms=stood_ms, why="This process did not run.")
            self.node.late_ms = stood_ms
            self._late_until = now + STALL_TAIL_MS
        elif now > self._late_until:
            self.node.late_ms = 0

    def _tell_of_the_clock(self) -> None:
        """This machine's clock has become wrong, or right again."""
        clock = self.node.local.clock
        self._clock_wrong = clock.wrong
        if self._clock_wrong:
            why = "This node goes by the others' time."
            self.log.warning("clock wrong", off_ms=clock.off_ms, why=why)
        else:
            self.log.info("clock right", off_ms=clock.off_ms)

    def _wake(self) -> None:
        now_ns = time.monotonic_ns()
        now = now_ns // 1_000_000
        local = self.node.local
        local.now = now
        if self._wake_ns:
            self._lag_us = max(0, now_ns - self._wake_ns) // 1000
            self.lag.add(self._lag_us)
        local.disk_ms = self.disk.sync_ms(now)
        self._look(now)
        local.clock.own(now, time.time_ns() // 1_000_000)
        if local.clock.wrong is not self._clock_wrong:
            self._tell_of_the_clock()
        try:
            self.node.wake()
            if not self._ticking:
                self._tick()
            if local.placer.busy and self._placing is None:
                self._placing = self.loop.call_later(PLACE_PAUSE_S, self._place)
        except BaseException as error:
            self.broken(error)
            raise
        finally:  # what stops the clock of a node leaves it half dead
            self._wake_ns = time.monotonic_ns() + WAKE_NS
            self._timer = self.loop.call_later(WAKE_EVERY_S, self._wake)

    def _place(self) -> None:
        """Do some steps of a placement that is wanted (core/cluster/placer.py)."""
        self._placing = None
        placer = self.node.local.placer
        end = time.monotonic_ns() + PLACE_NS
        try:
            while placer.busy and time.monotonic_ns() < end:
                placer.step()
        except BaseException as error:
            self.broken(error)
            raise
        if placer.busy and not self._broken:
            self._placing = self.loop.call_later(PLACE_PAUSE_S, self._place)
