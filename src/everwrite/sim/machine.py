"""One simulated computer: a disk that stays, and on it the lives of a node that come and go.

A life is a real core ``Node``, driven as core/outbox.py says: all that arrived is handled, then the
outbox is emptied in order: the batch, the acks and messages, the acks that wait for a sync, the
reads. What a node sends to itself it gets back in the same tick.

A fuse (sim/fuse.py) may end a life between two of these.

Source: Dynamo 4.6 for what must survive; the shell's driver and boot for what is imitated.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from everwrite.core.cluster.holdings import bits
from everwrite.core.cluster.members import Known
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data.epochs import SALT_BITS, Epochs
from everwrite.core.errors import StorageFull
from everwrite.core.messages.members import Member
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Put
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.node import Node
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import CONFIRMED, FLOORS
from everwrite.core.request.forward import TakenOver
from everwrite.core.request.making import LEASE
from everwrite.core.trees.walk import WALK_RID
from everwrite.core.wire import decode_payload
from everwrite.sim.beginning import begin, bring_trees, leave_trees
from everwrite.sim.disk import Disk, ReadFailed
from everwrite.sim.fuse import NO_FUSE
from everwrite.sim.paced import Episode
from everwrite.sim.tries import Tries
from everwrite.sim.truth import time_ms

BOOT_RETRY_US = 100_000
TICK_US = 30
STALL_MS = 200
STALL_TAIL_US = 250_000
"""A node that stood still for longer is told so while old frames may come, as by the server's
driver.
"""
SLOW_TIMES = 300


class World(Protocol):
    """What a machine needs of the world around it."""

    now: int

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Have something done after a delay."""

    def send(self, source: int, to: bytes, messages: list[Message]) -> None:
        """Carry messages to another node."""

    def answer(self, source: int, connection: int, messages: list[Message]) -> None:
        """Carry messages to a client."""

    def ticked(self, index: int) -> None:
        """A node ended a tick: its tables may be looked at."""

    def known(self) -> Known:
        """Return the members as they are now."""

    def served(self, index: int, partitions: int) -> None:
        """A node serves partitions from now on that it did not serve before."""

    def members_changed(self, index: int) -> None:
        """A node knows other members, or other things of them, than before."""

    def machine_stopped(self, index: int) -> None:
        """A node is gone: whoever is connected to it will notice."""

    def machine_started(self, index: int) -> None:
        """A node is up: the others will connect to it."""


class Machine:
    """See the module. ``node`` is None while no process runs."""

    def __init__(
        self,
        world: World,
        index: int,
        me: Member,
        members: list[Member],
        config: NodeConfig,
        cluster: ClusterConfig,
        disk: Disk,
        rng: random.Random,
        *,
        disk_us: int,
        epoch_block: int,
    ) -> None:
        self.world = world
        self.index = index
        self.members = members
        self.me = me
        """Of the members that found the cluster, or one that may join it."""
        self.config = config
        self.cluster = cluster
        self.disk = disk
        self.rng = rng
        self.disk_us = disk_us
        self.epoch_block = epoch_block
        self.node: Node | None = None
        self.life = self.ticks = self.slow_until = 0
        self.unread = 0
        """Reads of this life that failed, or found damage."""
        self.incarnation = self.newest = 0
        """The number of this start by its disk, and the highest that any start had."""
        self.founded = self.rejoins = False
        """Whether it ever ran; whether it was refused: then the next start is a new node's."""
        self.spare = self.retired = False
        """No member yet, and not running; a member no more, and never again."""
        self.seed: Member | None = None
        """Whom it joined through."""
        self.paused = False
        self.gone = False
        """Down, or standing still, for as long as somebody says so, whatever was planned."""
        self.fuse = NO_FUSE
        self.paced: Episode | None = None
        self.clock_ppm = 1_000_000
        self.clock_offset_ms = 1_000
        self.wall_jump_ms = 0
        self.tries = Tries()
        self.lost_at = -1
        """When this node last took a peer for down."""
        self.inbox: list[tuple[Place, bytes]] = []
        self._found: list[tuple[bytes, bytes | ReadFailed | None]] = []
        self._scanned: list[tuple[Scan, Scanned | ReadFailed]] = []
        self._stood_since = self._late_until = self._members_version = self._serves = 0
        self._gone: list[bytes] = []
        self._ticking = self._syncing = False
        self._timer = -1
        self._unsynced: list[tuple[Place, Message]] = []
        self.batch: Callable[[], dict[bytes, bytes | None]] = dict
        """Makes what takes the writes of a tick."""

    @property
    def parks_few(self) -> bool:
        """Whether this run's nodes have so little room for what waits for their disks that they
        may refuse what is asked of them at any time.
        """
        return self.config.parked_max < NodeConfig().parked_max

    # -- lives -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a life from what the disk has, as server/boot.py does."""
        disk, world = self.disk, self.world
        if self.node is not None or self.gone:
            return
        if world.now < disk.full_until:  # the lease cannot be written: no start yet
            sometimes("a node cannot start since its disk is full")
            world.later(BOOT_RETRY_US, self.start)
            return
        self.life += 1
        self.unread = 0
        leased = disk.readable(LEASE)
        first = int.from_bytes(leased, "big") if leased else 1
        disk.write({LEASE: (first + self.epoch_block).to_bytes(8, "big")}, world.now)
        disk.sync(disk.mark())
        epochs = Epochs(self.me.node_id, first, self.rng.getrandbits(SALT_BITS), self.epoch_block)
        table = begin(self)
        self._members_version = 0
        self._serves = bits(table.me.serves)
        self.node = node = Node(
            self.config,
            self.cluster,
            table,
            epochs,
            b"k" * 32,
            self.clock_ms(),
            wall_ms=self.wall_ms(),
        )
        (batch := self.batch()).update(node.out.writes)  # what it wrote while it was made, too
        node.out.writes = batch
        node.rounds.wants_in = self.me.node_id not in table.rulings
        node.ready = node.rounds.whole
        floors, confirmed = disk.readable(FLOORS), disk.readable(CONFIRMED)
        node.confirmations.restore(floors or b"", confirmed or b"")
        node.hints.count()
        bring_trees(self, node)
        self._timer = -1
        self._ticking = self._syncing = self.paused = False
        self.fuse = NO_FUSE
        world.machine_started(self.index)
        self.soon()

    def stop(self) -> None:
        """End this life at once; the disk is the caller's affair."""
        if self.node is None:
            return
        self.node = None
        self.life += 1
        self.inbox.clear()
        self._found.clear()
        self._scanned.clear()
        self._gone.clear()
        self._unsynced.clear()
        self.tries.clear()
        self.paused = False
        self.world.machine_stopped(self.index)

    def end(self, *, down_us: int) -> None:
        """Stop in good order, and come back after a while."""
        if self.node is not None and not self.paused:
            self.node.hand_on()
            self.node.leave()
            self._flush(self.node)
        if self.node is not None and not self.node.out.writes:
            leave_trees(self, self.node)
        self.crash(power=False, down_us=down_us)

    def join(self, seed: Member) -> None:
        """Start for the first time, knowing one member."""
        self.spare = self.gone = False
        self.seed = seed
        self.start()

    def retire(self) -> None:
        """Stop for good."""
        self.retired = self.gone = True
        self.stop()

    def heal(self) -> None:
        """End all that is wrong with this machine; start it if it is down."""
        self.disk.full_until = self.disk.errors_until = self.disk.slow_until = 0
        self.slow_until = 0
        self.fuse = NO_FUSE
        self.resume()
        self.start()

    def clock_ms(self) -> int:
        """Return this machine's monotonic clock."""
        return self.world.now * self.clock_ppm // 1_000_000_000 + self.clock_offset_ms

    def wall_ms(self) -> int:
        """Return what this machine's wall clock says."""
        return time_ms(self.world.now) + self.wall_jump_ms

    # -- what happens ------------------------------------------------------------------------------

    def arrive(self, source: Place, data: bytes) -> None:
        """A frame came; it waits for the next tick."""
        if self.node is not None:
            self.inbox.append((source, data))
            if not self._ticking:
                self.soon()

    def lost(self, peer: bytes) -> None:
        """A connection to a peer broke."""
        if self.node is not None:
            self._gone.append(peer)
            self.lost_at = self.world.now
            self.soon()

    def pause(self) -> None:
        """Stand still: what comes waits, and so does the clock, as far as the node can tell."""
        self.paused = True
        self._stood_since = self.world.now

    def resume(self) -> None:
        """Go on after a pause, with all that came meanwhile."""
        if self.node is not None and self.paused and not self.gone:
            self.paused = False
            stood_ms = (self.world.now - self._stood_since) // 1000
            if stood_ms > STALL_MS:
                self._late_until = self.world.now + STALL_TAIL_US
                self.node.late_ms = stood_ms
            self.soon()

    def soon(self) -> None:
        """Have a tick."""
        if not self._ticking:
            self._ticking = True
            delay = TICK_US
            if self.world.now < self.slow_until:
                delay *= int(self.rng.random() * SLOW_TIMES)
            self.world.later(delay, self._tick, self.life)

    def _tick(self, life: int) -> None:
        if life != self.life:
            return
        self._ticking = False
        node = self.node
        if node is None or self.paused:
            return
        now = node.local.now = self.clock_ms()
        if node.late_ms and self.world.now > self._late_until:
            node.late_ms = 0
        node.local.clock.own(now, self.wall_ms())
        gone, self._gone = self._gone, []
        for peer in gone:
            node.lost(peer)
        inbox, self.inbox = self.inbox, []
        for source, data in inbox:
            if type(source) is bytes:
                if node.local.members.removed(source):  # refused at the handshake
                    continue
                node.heard(source)
                if not data:  # a connection was made
                    continue
            for message in decode_payload(data[4:]):
                if type(message) is Put:
                    self.tries.note(node, message, self.world.now)
                node.receive(source, message)
        found, self._found = self._found, []
        for key, payload in found:
            if isinstance(payload, ReadFailed):
                self.unread += not node.quarantine.knows(key)  # what it knows is no news
                node.unreadable(key, payload.reason, corrupt=payload.corrupt)
            else:
                node.loaded(key, payload)
        ranges, self._scanned = self._scanned, []
        for scan, ranged in ranges:
            if isinstance(ranged, ReadFailed):
                node.unscanned(scan.rid, ranged.reason)
                self.unread += 1
            else:
                node.scanned(scan.rid, ranged)
        if now >= self._timer:
            self._timer = -1
            up = len(node.local.liveness.up)
            node.local.placer.step()
            node.wake()
            if len(node.local.liveness.up) < up:
                self.lost_at = self.world.now
        self._flush(node)
        if self.node is not None:
            node.local.records.turn()
            self._set_timer(node, now)
            self.ticks += 1
            self.world.ticked(self.index)
            self._note_changes(node)

    def _note_changes(self, node: Node) -> None:
        """Tell the world what a node serves since this tick, and whom it knows."""
        serves = node.local.serves
        if serves != self._serves:
            fresh, self._serves = serves & ~self._serves, serves
            self.world.served(self.index, fresh)
        if node.rounds.members_version != self._members_version:
            self._members_version = node.rounds.members_version
            node.ready = node.rounds.whole
            self.world.members_changed(self.index)
            if node.rounds.out_for_good:
                self.retire()

    def _set_timer(self, node: Node, now: int) -> None:
        due = max(node.next_wake_ms(), now + 1)
        if self._timer < 0 or due < self._timer:
            self._timer = due
            delay = (due - now) * 1_000_000_000 // self.clock_ppm + 1
            self.world.later(delay, self._wake, self.life, due)

    def _wake(self, life: int, due: int) -> None:
        if life == self.life and due == self._timer and not self.paused:
            self.soon()

    # -- the outbox --------------------------------------------------------------------------------

    def _flush(self, node: Node) -> None:
        out, me, world = node.out, self.me.node_id, self.world
        while out:
            if out.writes or out.on_write or out.on_sync:
                self._commit(node)
                if self.fuse.point == "written":
                    sometimes("a node dies between its write and its sends")
                    self._blow()
                    return
            if out.reads:
                keys, out.reads = out.reads, []
                self._read(keys)
            scans, out.scans = out.scans, []
            for scan in scans:
                # The walk must bear that a range is read long before it comes.
                early = scan.rid == WALK_RID and self.rng.random() < 0.5
                ranged = self._range(scan) if early else None
                world.later(self._disk_delay(), self._end_scan, self.life, scan, ranged)
            sends, out.sends = out.sends, {}
            own = sends.pop(me, None)
            half = len(sends) // 2 if self.fuse.point == "sending" and len(sends) > 1 else -1
            for place, messages in sends.items():
                if half == 0:
                    sometimes("a node dies amid its sends")
                    self._blow()
                    return
                half -= 1
                if type(place) is int:
                    world.answer(self.index, place, messages)
                else:
                    world.send(self.index, place, messages)  # type: ignore[arg-type]
            for message in own or ():
                if type(message) is TakenOver and isinstance(message.request, Put):
                    self.tries.taken_over(node, message.request, self.world.now)
                node.receive(me, message)

    def _commit(self, node: Node) -> None:
        out = node.out
        writes, on_write, on_sync = out.writes, out.on_write, out.on_sync
        out.writes, out.on_write, out.on_sync = self.batch(), [], []
        if writes:
            try:
                self.disk.write(writes, self.world.now)
            except StorageFull:
                node.write_failed(writes, on_write + on_sync)
                return
        for place, message in on_write:
            out.send(place, message)
        if on_sync:
            self._unsynced += on_sync
            if not self._syncing:
                self._begin_sync()

    def _begin_sync(self) -> None:
        self._syncing = True
        acks, self._unsynced = self._unsynced, []
        self.world.later(self._disk_delay(), self._end_sync, self.life, self.disk.mark(), acks)

    def _end_sync(self, life: int, mark: int, acks: list[tuple[Place, Message]]) -> None:
        if life != self.life or self.node is None:
            return
        if self.paused:  # the disk goes on, the process hears of it when it does
            sometimes("a sync ends while its node stands still")
            self.world.later(1000, self._end_sync, life, mark, acks)
            return
        self.disk.sync(mark)
        self._syncing = False
        if self.fuse.point == "synced":
            sometimes("a node dies between a sync and its acks")
            self._blow()
            return
        if self._unsynced:
            self._begin_sync()
        for place, message in acks:
            self.node.out.send(place, message)
        self.soon()

    def _read(self, keys: list[bytes]) -> None:
        for key in keys:
            # What a read finds is decided at some moment between its beginning and its end.
            early = self.rng.random() < 0.5
            found = self._look(key) if early else None
            self.world.later(self._disk_delay(), self._end_read, self.life, key, early, found)

    def _end_read(
        self, life: int, key: bytes, early: bool, found: bytes | ReadFailed | None
    ) -> None:
        if life == self.life and self.node is not None:
            self._found.append((key, found if early else self._look(key)))
            self.soon()

    def _end_scan(self, life: int, scan: Scan, early: Scanned | ReadFailed | None) -> None:
        if life != self.life or self.node is None:
            return
        self._scanned.append((scan, early if early is not None else self._range(scan)))
        self.soon()

    def _range(self, scan: Scan) -> Scanned | ReadFailed:
        try:
            return self.disk.scan(scan, self.world.now)
        except ReadFailed as failure:
            return failure

    def _look(self, key: bytes) -> bytes | ReadFailed | None:
        try:
            return self.disk.read(key, self.world.now)
        except ReadFailed as failure:
            return failure

    def _disk_delay(self) -> int:
        delay = 1 + int(self.rng.random() * 2 * self.disk_us)
        return delay * 100 if self.world.now < self.disk.slow_until else delay

    def _blow(self) -> None:
        """The fuse has burnt down: the process is gone in the midst of a tick."""
        fuse, self.fuse = self.fuse, NO_FUSE
        self.crash(power=fuse.power, down_us=fuse.down_us)

    def crash(self, *, power: bool, down_us: int) -> None:
        """Lose the process, with ``power`` also what was not synced; come back after a while."""
        self.stop()
        if power:
            self.disk.cut_power()
        self.world.later(down_us, self.start)
