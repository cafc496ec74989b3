"""One node's core: routes each event to the conversation that it belongs to. It has no policy of
its own.

The shell (server/driver.py) and the simulator (sim/world.py) are its two callers. They set ``now``
(milliseconds of a monotonic clock) before each tick, call the methods below for all that happened,
and empty the outbox as core/outbox.py says. Same events, same outbox, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from everwrite.core.channels import Channels
from everwrite.core.clients import Clients
from everwrite.core.cluster.members import MemberTable
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data.epochs import Epochs
from everwrite.core.errors import ProtocolError
from everwrite.core.expiry.expiry import Expiry, Retire
from everwrite.core.gossip.detector import Detector
from everwrite.core.gossip.rounds import MEMBERS, Rounds
from everwrite.core.hints.delivery import Deliver, Delivered
from everwrite.core.hints.hints import Hints, Recount
from everwrite.core.local import Local, Request
from everwrite.core.messages.explain import Show, Shown
from everwrite.core.messages.hints import AskRoom, Room
from everwrite.core.messages.listing import Named, Names
from everwrite.core.messages.load import Load
from everwrite.core.messages.members import News, Ping, Pong, Probe, Probed, Rows, Summary
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Matched, Pull, Slice
from everwrite.core.messages.requests import (
    BUSY,
    REFUSED,
    Ask,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Store,
    StoreReply,
    Touch,
)
from everwrite.core.moving.moves import Kept, Moves, Proved
from everwrite.core.moving.ranges import Scanned
from everwrite.core.outbox import Outbox, Place
from everwrite.core.pace.neighbours import Neighbours
from everwrite.core.probes import sometimes
from everwrite.core.records import HELD, HINT, OWN, Damaged, Payload
from everwrite.core.repair.repairs import Repairs
from everwrite.core.request.forward import TakenOver
from everwrite.core.request.limits import (
    gone_for_good,
    lay_too_long,
)
from everwrite.core.request.listing import Listings
from everwrite.core.request.look import LookedAround
from everwrite.core.request.making import LeaseKept
from everwrite.core.request.read import Reads
from everwrite.core.request.replica import Replica
from everwrite.core.request.survey import Surveys
from everwrite.core.request.write import Writes
from everwrite.core.tombstones.collect import Collect
from everwrite.core.tombstones.confirm import Confirmations
from everwrite.core.trees.mend import Mend
from everwrite.core.trees.quarantine import Quarantine, Recheck
from everwrite.core.trees.walk import WALK_RID, Walk

Handler = Callable[[Place, Any], None]


class Node:
    """See the module."""

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
        self.local = local = Local(
            config, cluster, members, epochs, context_key, now, durable, wall_ms
        )
        self.hints = Hints(local)
        self.replica = Replica(local, self.hints)
        self.writes = Writes(local, self.hints)
        self.reads = Reads(local)
        self.listings = Listings(local, self.hints)
        self.surveys = Surveys(local, self.hints)
        self.detector = Detector(local)
        self.neighbours = Neighbours(local)
        self.expiry = Expiry(local)
        self.rounds = Rounds(local)
        self.rounds.removed = self._removed
        self.moves = Moves(local, self.hints, self.rounds)
        self.confirmations = Confirmations(local, self.hints, self.moves)
        self.collect = Collect(local, self.confirmations)
        self.quarantine = Quarantine(local)
        self.walk = Walk(local, self.quarantine, self.hints.doubt)
        self.repairs = Repairs(local, self.expiry)
        self.channels = Channels(local)
        self.clients = Clients(self)
        self.ready = True
        """False while the node does not know its cluster yet: clients are asked to wait."""
        self.doubted = False
        """Whether a peer has said that an earlier start of this node still runs, and none has let
        this one in since: it may be a copy, whose data is old.
        """
        self.late_ms = 0
        """How long what arrives now may have lain unread while this process did not run: set by the
        shell after a pause. A put that lay so long is expired, or an earlier try of one that others
        have carried out meanwhile.
        """
        self._hint_pass_ms = now
        self._from_clients: dict[type, Handler] = {
            Ask: lambda source, message: local.out.asks.append((source, message)),
            **self.clients.handlers,
            **self.channels.from_clients,
        }
        self._from_nodes = {
            **self._of_requests(),
            **self._of_members(),
            **self.collect.handlers,
            **self.repairs.handlers,
            **self.channels.from_nodes,
        }
        self._from_self = {**self._from_nodes, **self._of_itself()}

    def _of_requests(self) -> dict[type, Handler]:
        return {
            Fetch: self.replica.fetch,
            Store: self.replica.store,
            FetchReply: self._fetched,
            StoreReply: self._stored,
            Get: self.reads.get,
            Put: self.clients.handed_on,
            Touch: self.clients.handed_on,
            GetReply: self._relayed,
            PutReply: self._relayed,
            Failure: self._relayed,
            AskRoom: self.hints.asked_for_room,
            Room: self.hints.room_given,
            Names: self.listings.names,
            Named: self._named,
            Show: self.surveys.show,
            Shown: self._shown,
        }

    def _of_members(self) -> dict[type, Handler]:
        return {
            Ping: self.detector.ping,
            Pong: self.detector.pong,
            Probe: self.detector.probe,
            Probed: self.detector.probed,
            Summary: self.rounds.summary,
            Rows: self.rounds.rows,
            News: self.rounds.news,
            Pull: self.moves.asked,
            Match: self.moves.asked,
            GiveUp: self.moves.give_up,
            Slice: self._sliced,
            GaveUp: self._gave_up,
            Matched: self._matched,
            Load: self.neighbours.said,
        }

    def _of_itself(self) -> dict[type, Handler]:
        return {
            LookedAround: lambda _, message: self.writes.looked_around(message),
            LeaseKept: lambda _, message: self.writes.making.lease_kept(message),
            TakenOver: lambda _, message: self._taken_over(message),
            Deliver: lambda _, message: self.hints.send(message),
            Recount: lambda _, message: self.hints.recount(message),
            Mend: lambda _, message: self.reads.mend(message.get, message.record, message.read_ms),
            Recheck: lambda _, message: self.quarantine.recheck(message),
            Delivered: lambda _, message: self.hints.strike_out(message),
            Retire: lambda _, message: self.expiry.retire(message),
            Proved: lambda _, message: self.moves.proved(message),
            Kept: lambda _, message: self.moves.kept(message),
            **self.confirmations.own_handlers,
        }

    @property
    def out(self) -> Outbox:
        return self.local.out

    # -- what happens ------------------------------------------------------------------------------

    def handlers(self, source: Place) -> dict[type, Handler]:
        """Return what a place may send, and who handles it: for callers with many messages."""
        if type(source) is int:
            return self._from_clients
        return self._from_self if source == self.local.me else self._from_nodes

    def receive(self, source: Place, message: Message) -> None:
        """Handle one message; ProtocolError if its sender has no business sending it."""
        handler = self.handlers(source).get(type(message))
        if handler is None:
            raise no_business(message)
        handler(source, message)

    def heard(self, peer: bytes) -> None:
        """A frame of a peer came, or its connection was made."""
        if self.detector.heard(peer):
            if not self.local.clock.known:
                self.detector.ask_time(peer)
            self.rounds.came(peer)
            self.hints.back(peer)
            self.repairs.came(peer)
            self.channels.came(peer)

    def lost(self, peer: bytes) -> None:
        """A peer's connection broke: it counts as down until it is heard again."""
        if self.detector.lost(peer):
            self._fail_over(peer)

    def _removed(self, peer: bytes) -> None:
        """A member was removed for good."""
        self.lost(peer)
        self.detector.forget(peer)
        self.neighbours.forget(peer)
        self.channels.forget(peer)

    def _fail_over(self, peer: bytes) -> None:
        """A peer is not to be counted on any more."""
        for request in list(self.local.requests.values()):
            request.lost(peer)
        self.channels.lost(peer)

    def loaded(self, key: bytes, payload: Payload) -> None:
        """A read of the disk found this under a disk key (None: proven absent)."""
        if payload is not None and self.quarantine.knows(key):
            # It was read before it was damaged, and comes after a walk has counted without it.
            sometimes("a copy comes whole after it was found damaged")
            self.local.trees.doubt(self.local.trees.leaf_of(key[1:]))
        self._unpark(key, payload)

    def unreadable(self, key: bytes, reason: str, *, corrupt: bool) -> bool:
        """A read of the disk failed, or what it found is damaged. Say whether that is news: what is
        in quarantine is read again and again, and is as damaged as it was.
        """
        news = True
        if corrupt:
            sometimes("a read finds a damaged copy")
            if key[:1] == OWN:
                news = self.quarantine.found(key[1:])
                if news:
                    self.local.trees.doubt(self.local.trees.leaf_of(key[1:]))
            if news:
                self.local.recent_puts.clear()  # what comes in its place may know less
        self.local.counters.unreadable += news
        self._unpark(key, Damaged(reason, corrupt))
        self.local.records.settle(key)
        return news

    def scanned(self, rid: int, scanned: Scanned) -> None:
        """A read of a range of the disk found this."""
        if rid == WALK_RID:
            self.walk.scanned(scanned)
            return
        request = self.local.requests.get(rid)
        if request is not None:
            request.scanned(scanned)

    def unscanned(self, rid: int, reason: str) -> None:
        """A range of the disk cannot be read."""
        self.local.counters.unreadable += 1
        if rid == WALK_RID:
            self.walk.unscanned()
            return
        request = self.local.requests.get(rid)
        if request is not None:
            request.unscanned()

    def write_failed(
        self, writes: dict[bytes, bytes | None], acks: list[tuple[Place, Message]]
    ) -> None:
        """This tick's batch was not written: nothing of it is on disk, and its acks turn
        into refusals.
        """
        local = self.local
        local.counters.writes_failed += 1
        sometimes("a batch is not written")
        local.records.take_back(writes)
        self.rounds.unwritten |= MEMBERS in writes
        local.epochs.abandon()
        local.recent_puts.clear()
        for key in writes:
            if key[:1] == HINT:
                self.hints.doubt(key[1:])
        for place, message in acks:
            if isinstance(message, StoreReply):
                local.out.send(place, StoreReply(message.rid, REFUSED, False))
            elif isinstance(message, LeaseKept):
                sometimes("a lease of epochs is not written")
                local.leasing = False
            elif isinstance(message, GaveUp):
                local.out.send(place, GaveUp(message.rid, False))
            elif isinstance(message, Matched):
                local.out.send(place, Matched(message.rid, BUSY, message.step))
            elif isinstance(message, Proved):
                self.moves.unproved(message)
            elif isinstance(message, Kept):
                self.moves.untold()
        if HELD in writes:  # as it is now: a proof in that batch counts for nothing
            self.moves.unwritten = True
            local.owe_held()

    def wake(self) -> None:
        """Time has passed: end what is overdue, ping, deliver hints."""
        local = self.local
        local.clock.members = len(local.members)
        for rid in local.due():
            request = local.requests.get(rid)
            if request is not None:
                for peer in request.silent():
                    self._time(request, peer)
                request.wake()
        for peer in self.detector.wake():
            self._fail_over(peer)
        self.rounds.wake()
        self.neighbours.wake()
        self.moves.wake()
        self.collect.wake()
        self.walk.wake()
        self.quarantine.wake()
        self.repairs.wake()
        self.channels.wake()
        self.expiry.begin()
        if local.now >= self._hint_pass_ms:
            self._hint_pass_ms = local.now + local.config.hint_pass_every_ms
            if self.hints.unfinished:
                self.hints.deliver()

    def next_wake_ms(self) -> int:
        """Return when ``wake`` has something to do if nothing else happens."""
        due = self.local.next_due_ms()
        wake = min(
            self.rounds.next_wake_ms(),
            self.detector.next_wake_ms(),
            self.moves.next_wake_ms(),
            self.collect.next_wake_ms(),
            self.repairs.next_wake_ms(),
            self.expiry.next_wake_ms(),
        )
        if self.hints.unfinished:
            wake = min(wake, self._hint_pass_ms)
        walks, reads_again = self.walk.next_wake_ms(), self.quarantine.next_wake_ms()
        others = (due, walks, reads_again, self.channels.next_wake_ms())
        return min([wake, *(each for each in others if each is not None)])

    # -- the end of a process ----------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Whether an owner lacks a copy, and nothing but a request of this process says so."""
        return any(request.owes() for request in self.local.requests.values())

    def hand_on(self) -> None:
        """This process is about to stop: begin nothing more for clients, and wait for nobody who
        is late. A put that was answered at W acks gets stand-ins for the others now. What other
        nodes ask for is still done.
        """
        self.local.stopping = True
        for request in list(self.local.requests.values()):
            request.hand_on()

    def leave(self) -> None:
        """This process stops now, and hears and says nothing more: for whoever has not taken a
        copy yet, a hint is kept here.
        """
        self.local.stopping = True
        for request in list(self.local.requests.values()):
            request.leave()

    # -- handlers ----------------------------------------------------------------------------------

    def put(self, source: Place, put: Put | Touch) -> None:
        if self.local.closing or self.rounds.out_for_good:
            self.local.fail(source, put, gone_for_good())
            return
        unread_ms = self.clients.unread_ms(source)
        if unread_ms:
            left = put.timeout_ms - unread_ms
            if left <= 0:
                self.local.counters.expired += 1
                self.local.fail(source, put, lay_too_long())
                return
            sometimes("a put that lay unread is taken for a retry")
            put = msgspec.structs.replace(put, timeout_ms=left, retry=True)
        if isinstance(put, Touch):
            self.writes.touch(source, put)
        else:
            self.writes.put(source, put)

    def _taken_over(self, message: TakenOver) -> None:
        if isinstance(message.request, Get):
            self.reads.get(message.source, message.request)
        else:
            self.writes.take_over(message)

    def _fetched(self, source: Place, reply: FetchReply) -> None:
        local = self.local
        request = local.requests.get(reply.rid)
        if request is not None:
            if source != local.me:
                self._time(request, source)
            request.fetched(source, reply)
        else:
            sometimes("a copy comes after its request is over")

    def _stored(self, source: Place, reply: StoreReply) -> None:
        local = self.local
        request = local.requests.get(reply.rid)
        if request is not None:
            if source != local.me:
                self._time(request, source)
            request.stored(source, reply)
        elif reply.rid:
            sometimes("an ack comes after its request is over")

    def _named(self, source: Place, reply: Named) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.named(source, reply)

    def _time(self, request: Request, source: Place) -> None:
        """See how long a peer took to answer: by that too it is found to be slow."""
        asked_at = request.asked_at(source)
        if asked_at >= 0 and type(source) is bytes:
            self.detector.took(source, self.local.now - asked_at)

    def _sliced(self, source: Place, reply: Slice) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.sliced(source, reply)

    def _gave_up(self, source: Place, reply: GaveUp) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.gave_up(source, reply)

    def _matched(self, source: Place, reply: Matched) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.matched(source, reply)

    def _shown(self, source: Place, reply: Shown) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.shown(source, reply)

    def _relayed(self, source: Place, reply: GetReply | PutReply | Failure) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.relayed(reply)
        else:
            sometimes("the answer to a request that was handed on comes too late")

    def _unpark(self, key: bytes, payload: Payload | Damaged) -> None:
        local = self.local
        for source, message, came in local.records.loaded(key, payload):
            waited = local.now - came
            aged = self._aged(source, message, waited) if waited or self.late_ms else message
            if type(source) is int and type(message) is Fetch:
                local.pace.took("reads", waited * 1000, local.now)
            if aged is not None:
                self.receive(source, aged)

    def _aged(self, source: Place, message: Message, waited_ms: int) -> Message | None:
        """Return a message that waited for the disk as it is now; None if its time is over, and its
        sender was told.
        """
        if isinstance(message, Put | Touch):  # what a pause took off goes once more
            waited_ms -= self.clients.unread_ms(source)
        if not isinstance(message, Fetch | Store):
            return self.writes.aged(source, message, waited_ms)
        if 0 < message.left_ms <= waited_ms:
            self.local.counters.expired += 1
            sometimes("a replica's work expires while it waits for the disk")
            self.replica.expired(source, message)
            return None
        return message


def no_business(message: Message) -> ProtocolError:
    """Return the error for a message that its sender has no business sending."""
    kind = type(message).__name__
    return ProtocolError(f"A {kind} is not for the other side of this connection to send.")
