"""What all conversations of one node share: who it is, what time it is, its tables, and the way
out.

One object, owned by ``Node``; the state machines of requests, repair and gossip get it as their
first argument. It holds no policy. Time is ``now``: milliseconds of a monotonic clock, set by the
shell before each tick.
"""

from __future__ import annotations

import functools

import msgspec
import xxhash

from everwrite.core.cluster.holdings import bits, encode_held
from everwrite.core.cluster.liveness import Liveness
from everwrite.core.cluster.members import MemberTable
from everwrite.core.cluster.placer import Placer
from everwrite.core.cluster.routes import Routes
from everwrite.core.config import STAMP_BITS, STARTS_MAX, ClusterConfig, NodeConfig
from everwrite.core.copies import Copies
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.keys import of_key
from everwrite.core.errors import EverwriteError, StorageError, TooLarge, check
from everwrite.core.expiry.clock import Clock
from everwrite.core.failures import failure_of
from everwrite.core.measures import Asked, Measures
from everwrite.core.messages.explain import Shown
from everwrite.core.messages.listing import List, Named
from everwrite.core.messages.members import IN, LEAVING
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import GaveUp, Matched, Slice
from everwrite.core.messages.requests import (
    STORED,
    SYNC_BOTH,
    SYNC_NO,
    FetchReply,
    Store,
    StoreReply,
)
from everwrite.core.moving.ranges import Scanned
from everwrite.core.outbox import Outbox, Place
from everwrite.core.pace.pace import Pace
from everwrite.core.patience import Patience
from everwrite.core.probes import sometimes
from everwrite.core.recent import RecentPuts
from everwrite.core.records import HELD, Records
from everwrite.core.trace import Trace
from everwrite.core.trees.trees import Trees, seed_of
from everwrite.core.unsettled import Unsettled

TICK_BITS = 4
"""Timers are kept in slots of 16 ms: finer than any time-out, coarse enough that a slot is shared.
"""


RID_BITS = 32
"""Requests of one run, before their numbers run into those of another."""


class Counters(msgspec.Struct):
    """What happened since the start, for ``status`` and metrics."""

    gets: int = 0
    puts: int = 0
    touches: int = 0
    fetches: int = 0
    stores: int = 0
    forwards: int = 0
    read_repairs: int = 0
    hedges: int = 0
    hints_stored: int = 0
    hints_delivered: int = 0
    hints_refused: int = 0
    refused: int = 0
    quorum_failures: int = 0
    siblings_met: int = 0
    siblings_merged: int = 0
    types_clashed: int = 0
    """Places at which a change met several data types, written by clients at the same time."""
    unreadable: int = 0
    expired: int = 0
    retired: int = 0
    """Own copies that were brought to the horizon, since something in them had ended."""
    purged: int = 0
    """Those of them of which nothing was left."""
    writes_failed: int = 0
    retries_recognised: int = 0
    stale_refused: int = 0
    """Copies that had been on their way since before a tombstone was collected."""
    tombstones_collected: int = 0
    """Of those that this node asked about."""
    tombstones_reaped: int = 0
    """Own copies that went."""


class Request:
    """One conversation that waits for answers: a row of the table of requests.

    ``fetched``, ``stored`` and ``relayed`` get the answers, ``lost`` says that a peer went down,
    ``wake`` that the time has come which was asked for. A request that is over has left the table,
    and what comes late finds nobody.
    """

    __slots__ = ()

    does = "begins"
    """What a trace says of it."""

    def serves(self) -> tuple[Place, int] | None:
        """Return the client's request that it is for, by place and number; None: for none."""
        return None

    def asked_at(self, source: Place) -> int:
        """Return since when this node owes an answer that says how fast it is; -1: it does not."""
        return -1

    def silent(self) -> list[bytes]:
        """Return who has owed such an answer for long, and is not waited for any more."""
        return []

    def fetched(self, source: Place, reply: FetchReply) -> None:
        """An answer to a Fetch came."""

    def stored(self, source: Place, reply: StoreReply) -> None:
        """An answer to a Store came."""

    def relayed(self, reply: Message) -> None:
        """An answer to a forwarded request came."""

    def named(self, source: Place, reply: Named) -> None:
        """An answer to Names came."""

    def shown(self, source: Place, reply: Shown) -> None:
        """An answer to Show came."""

    def scanned(self, scanned: Scanned) -> None:
        """What stands in a range of the disk came."""

    def unscanned(self) -> None:
        """The disk would not give a range."""

    def sliced(self, source: Place, reply: Slice) -> None:
        """An answer to a Pull came."""

    def gave_up(self, source: Place, reply: GaveUp) -> None:
        """An answer to a GiveUp came."""

    def matched(self, source: Place, reply: Matched) -> None:
        """An answer to a Match came."""

    def lost(self, peer: bytes) -> None:
        """A peer went down."""

    def wake(self) -> None:
        """The time has come."""

    def owes(self) -> bool:
        """Say whether somebody lacks a copy that a client was promised, and only this knows it."""
        return False

    def hand_on(self) -> None:
        """This process is about to stop: what is owed is to be with others soon."""

    def leave(self) -> None:
        """This process stops now: what is still owed is to be on the disk."""

    def about(self) -> bytes:
        """Return the data key whose copies this request has in its hands; empty: none."""
        return b""


class Local:
    """See the module."""

    __slots__ = (
        "_due",
        "_rid",
        "_stamps_from",
        "background",
        "clock",
        "closing",
        "cluster",
        "config",
        "context_key",
        "copies",
        "counters",
        "disk_ms",
        "durable",
        "epochs",
        "fingerprint",
        "floors",
        "fsync",
        "generation",
        "held_bytes",
        "keeps",
        "leasing",
        "liveness",
        "me",
        "measures",
        "members",
        "now",
        "out",
        "pace",
        "patience",
        "placer",
        "proving",
        "recent_puts",
        "records",
        "requests",
        "routes",
        "serves",
        "stopping",
        "strangers",
        "traced",
        "traces",
        "trees",
        "unsettled",
        "woken_to",
    )

    def __init__(
        self,
        config: NodeConfig,
        cluster: ClusterConfig,
        members: MemberTable,
        epochs: Epochs,
        context_key: bytes,
        now: int,
        durable: bool = True,
        wall_ms: int = 0,
    ) -> None:
        self.config = config
        self.cluster = cluster
        self.members = members
        self.me = members.me.node_id
        self.epochs = epochs
        self.context_key = context_key
        self.fingerprint = functools.partial(
            xxhash.xxh3_128_digest, seed=int.from_bytes(context_key[:8], "big")
        )
        """Names a record's bytes among nodes; keyed, so that no client can make two of one name."""
        self.durable = durable
        """Whether an fsync here means anything: False on an engine that keeps nothing on a disk."""
        self.fsync = config.fsync and durable
        self.now = now
        self.clock = Clock(now, wall_ms, len(members))
        floor_ms, cap_ms = config.pace_floor_ms, config.pace_cap_ms
        self.pace = Pace(now, on=config.pace, floor_ms=floor_ms, cap_ms=cap_ms)
        self.disk_ms = -1
        """How long a sync of the disk took lately, set by the shell; -1: there was none lately."""
        self.out = Outbox()
        self.trees = Trees(self.out, seed_of(context_key), cluster.partitions, config.leaf_bits)
        self.records = Records(self.out, config, self.trees)
        self.copies = Copies(self.records, config.expiry_slot_ms, lambda: self.time_ms)
        self.liveness = Liveness(config.down_after_ms)
        self._begin_holding()
        self.closing = False
        """Whether this node takes no more, since it is about to leave for good."""
        self.recent_puts = RecentPuts()
        self.unsettled = Unsettled()
        self.strangers: set[Place] = set()
        """Nodes that act on another view of the members than this one: gossip sees to them."""
        self._begin_serving()
        self._begin_measuring()
        self.leasing = False
        self.floors: dict[bytes, int] = {}
        """For each node up to where what it had read may be older than a tombstone that was
        collected (tombstones/collect.py): on the disk of every member before that one goes."""
        self.generation = 0
        """That of the newest collection of tombstones that this node knows of."""
        # Not the lease of epochs: that goes back in time with its disk, or is lost with it. But who
        # has heard of a start hears none of a lower number any more (server/fences.py).
        check(0 <= members.me.incarnation <= STARTS_MAX, "stamps of all starts fit into 64 bits")
        self._stamps_from = members.me.incarnation << STAMP_BITS
        # An answer to a request of an earlier run must not find another request under its number.
        self._rid = epochs.salt << RID_BITS
        self._due: dict[int, list[int]] = {}
        self.woken_to = now >> TICK_BITS

    def _begin_serving(self) -> None:
        self.requests: dict[int, Request] = {}
        self.background = 0
        """How many of these no client waits for: hints on their way, which have their own cap."""
        self.held_bytes = 0
        """What the requests in the table hold, roughly."""
        self.patience = Patience(self.config.in_flight_max, self.config.held_bytes_max)
        """Puts that wait for an owner which is late."""
        self.stopping = False
        """Whether this process is about to stop, and begins nothing more for clients."""

    def _begin_measuring(self) -> None:
        self.counters = Counters()
        self.measures = Measures()
        self.traces: dict[tuple[Place, int] | None, Trace] = {}
        """Of requests that are traced, by their client and its number (core/trace.py)."""
        self.traced: dict[int, Trace] = {}
        """By the number of each conversation that serves one."""

    def _begin_holding(self) -> None:
        members, cluster = self.members, self.cluster
        self.placer = Placer(cluster.partitions, cluster.replicas, self.config.place_at_once)
        # At the start in one go: there is nobody yet who would wait.
        placement = self.placer.current = self.placer.place(members.candidates())
        self.routes = Routes(self.me, placement, self.liveness)
        self.serves = bits(members.me.serves)
        """Bit p: our copies of partition p count in quorums."""
        self.keeps = bits(members.me.keeps)
        """Bit p: there are copies of partition p on our disk."""
        self.proving = 0
        """Bit p: that partition p is served from now on is on its way to the disk."""
        self.refresh()

    @property
    def time_ms(self) -> int:
        """The time of day by the cluster's clock."""
        return self.clock.time_ms(self.now)

    @property
    def stamp(self) -> int:
        """This node's own count of milliseconds, which goes on over restarts, on an older disk too:
        it says when a copy on its way was read off a disk. No clock of the day has a part in it.
        """
        return self._stamps_from + self.now

    def is_over(self, ends: int) -> bool:
        """Say whether what ends then (0: never) has surely ended. Who does not know the time cannot
        say so: a machine's own clock may be wrong by years.
        """
        return self.clock.known and 0 < ends <= self.time_ms

    def is_timely(self, source: Place, stamp: int) -> bool:
        """Say whether a copy may be taken that a node read then, by its own count; 0: it never left
        this node.
        """
        return not stamp or not self.floors or stamp > self.floors.get(source, 0)  # type: ignore[arg-type]

    def refresh(self) -> None:
        """Somebody holds another thing than before: make the routes anew."""
        serves = {member.node_id: held for member in self.members if (held := bits(member.serves))}
        keeps = {member.node_id: held for member in self.members if (held := bits(member.keeps))}
        serves[self.me], keeps[self.me] = self.serves, self.keeps
        self.routes.hold(serves, keeps)
        owned = self.routes.owned if self.members.standing(self.me) in (IN, LEAVING) else 0
        if owned & ~self.keeps:  # before the first copy of these comes
            self.keeps |= owned
            self.write_held()

    def write_held(self) -> None:
        """Write what this node serves and keeps, with this tick."""
        self.records.write(HELD, self._held())

    def owe_held(self) -> None:
        """What this node serves and keeps was not written: the next copy brings it along. Else a
        crash could leave a copy of a partition which nobody knows to be there.
        """
        self.records.owed[HELD] = self._held()

    def _held(self) -> bytes:
        return encode_held(self.serves | self.proving, self.keeps | self.proving)

    def open_request(self, request: Request, wake_at: int) -> int:
        """Put a request into the table, to be woken once; return its id."""
        self._rid = rid = self._rid + 1
        self.requests[rid] = request
        if self.traces and (trace := self.traces.get(request.serves())) is not None:
            self.traced[rid] = trace
            trace.note(request.does)
        slot = self._due.get(wake_at >> TICK_BITS)
        if slot is None:
            self._due[wake_at >> TICK_BITS] = [rid]
        else:
            slot.append(rid)
        return rid

    def wake_at(self, rid: int, at: int) -> None:
        """Ask for another wake-up, at the end of the 16 ms slot of ``at``."""
        self._due.setdefault(max(at >> TICK_BITS, self.woken_to + 1), []).append(rid)

    def due(self) -> list[int]:
        """Return the requests whose time has come, and forget their wake-ups."""
        upto = (self.now >> TICK_BITS) - 1
        if upto <= self.woken_to:
            return []
        slots = sorted(slot for slot in self._due if slot <= upto)
        self.woken_to = upto
        return [rid for slot in slots for rid in self._due.pop(slot)]

    def next_due_ms(self) -> int | None:
        """Return when the earliest wake-up is due."""
        return (min(self._due) + 1) << TICK_BITS if self._due else None

    def fail(self, source: Place, asked: Asked, error: EverwriteError, took_ms: int = 0) -> None:
        """Answer a client's request with an error."""
        self.counters.refused += 1
        if isinstance(error, TooLarge) and not isinstance(asked, List):
            error = of_key(error, asked.key)
        if source != self.me:
            self.measures.fail(asked, error, took_ms)
        self.out.send(source, failure_of(asked.rid, error))

    def acknowledge(self, source: Place, message: Store) -> None:
        """Queue the ack or acks that a Store asked for: once this tick's batch is written,
        or fsynced.
        """
        if message.sync != SYNC_NO and self.durable:
            self.out.on_sync.append((source, StoreReply(message.rid, STORED, True)))
            if message.sync != SYNC_BOTH:
                return
        self.out.on_write.append((source, StoreReply(message.rid, STORED, False)))


def unreadable_here() -> StorageError:
    """Return the error for a request that only this node could serve, and whose record it
    cannot read.
    """
    sometimes("nobody is left to serve a put whose key cannot be read here")
    return StorageError(
        "This node cannot read its copy of the key, and no other node can be reached.",
        hint="Nothing was changed. Try again when more nodes are up.",
    )
