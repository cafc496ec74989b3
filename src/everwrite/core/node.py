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

from everwrite.core.cluster.members import MemberTable
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.keys import VALUE_BYTES_MAX, checked_value, split_key
from everwrite.core.errors import EverwriteError, ProtocolError, UnavailableError
from everwrite.core.gossip.rounds import Rounds
from everwrite.core.local import Local
from everwrite.core.messages import (
    REFUSED,
    Ask,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Members,
    Message,
    Ping,
    Pong,
    Put,
    PutReply,
    Store,
    StoreReply,
)
from everwrite.core.outbox import Outbox, Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, Damaged, Payload
from everwrite.core.repair.hints import Deliver, Delivered, Hints, Mend, Recount
from everwrite.core.request.forward import TakenOver
from everwrite.core.request.limits import check_get, check_put, lay_too_long, too_busy
from everwrite.core.request.look import LookedAround
from everwrite.core.request.read import Reads
from everwrite.core.request.replica import Replica
from everwrite.core.request.write import LeaseKept, Writes

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
    ) -> None:
        self.local = local = Local(config, cluster, members, epochs, context_key, now, durable)
        self.hints = Hints(local)
        self.replica = Replica(local, self.hints)
        self.writes = Writes(local, self.hints)
        self.reads = Reads(local)
        self.rounds = Rounds(local)
        self.ready = True
        """False while the node does not know its cluster yet: clients are asked to wait."""
        self.late_ms = 0
        """How long what arrives now may have lain unread while this process did not run: set by the
        shell after a pause. A put that lay so long is expired, or an earlier try of one that others
        have carried out meanwhile.
        """
        self._hint_pass_ms = now
        self._from_clients: dict[type, Handler] = {
            Ask: lambda source, message: local.out.asks.append((source, message)),
            Fetch: self._client_fetch,
            Get: self._client_get,
            Put: self._client_put,
        }
        self._from_nodes: dict[type, Handler] = {
            Fetch: self.replica.fetch,
            Store: self.replica.store,
            FetchReply: self._fetched,
            StoreReply: self._stored,
            Get: self.reads.get,
            Put: self._put,
            GetReply: self._relayed,
            PutReply: self._relayed,
            Failure: self._relayed,
            Ping: self.rounds.ping,
            Pong: self.rounds.pong,
            Members: self.rounds.members,
        }
        self._from_self: dict[type, Handler] = {
            **self._from_nodes,
            LookedAround: lambda _, message: self.writes.looked_around(message),
            LeaseKept: lambda _, message: self.writes.lease_kept(message),
            TakenOver: lambda _, message: self._taken_over(message),
            Deliver: lambda _, message: self.hints.send(message),
            Recount: lambda _, message: self.hints.recount(message),
            Mend: lambda _, message: self.reads.mend(message.get, message.record),
            Delivered: lambda _, message: self.hints.strike_out(message),
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
        if self.rounds.heard(peer):
            self.hints.back(peer)

    def lost(self, peer: bytes) -> None:
        """A peer's connection broke: it counts as down until it is heard again."""
        if not self.rounds.lost(peer):
            return
        for request in list(self.local.requests.values()):
            request.lost(peer)

    def loaded(self, key: bytes, payload: Payload) -> None:
        """A read of the disk found this under a disk key (None: proven absent)."""
        self._unpark(key, payload)

    def unreadable(self, key: bytes, reason: str, *, corrupt: bool) -> None:
        """A read of the disk failed, or what it found is damaged."""
        self.local.counters.unreadable += 1
        if corrupt:
            sometimes("a read finds a damaged copy")
            self.local.recent_puts.clear()  # what comes in its place may know less
        self._unpark(key, Damaged(reason, corrupt))
        self.local.records.settle(key)

    def write_failed(
        self, writes: dict[bytes, bytes | None], acks: list[tuple[Place, Message]]
    ) -> None:
        """This tick's batch was not written: nothing of it is on disk, and its acks turn
        into refusals.
        """
        local = self.local
        local.counters.writes_failed += 1
        sometimes("a batch is not written")
        local.records.forget(list(writes))
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

    def wake(self) -> None:
        """Time has passed: end what is overdue, ping, deliver hints."""
        local = self.local
        for rid in local.due():
            request = local.requests.get(rid)
            if request is not None:
                request.wake()
        for peer in self.rounds.wake():
            self.lost(peer)
        if local.now >= self._hint_pass_ms:
            self._hint_pass_ms = local.now + local.config.hint_pass_every_ms
            if self.hints.waiting or self.hints.uncertain:
                self.hints.deliver()

    def next_wake_ms(self) -> int:
        """Return when ``wake`` has something to do if nothing else happens."""
        due = self.local.next_due_ms()
        wake = self.rounds.next_wake_ms()
        if self.hints.waiting or self.hints.uncertain:
            wake = min(wake, self._hint_pass_ms)
        return wake if due is None else min(due, wake)

    # -- handlers ----------------------------------------------------------------------------------

    def _client_put(self, source: Place, put: Put) -> None:
        local = self.local
        if self._full() or not self.ready:
            local.fail(source, put.rid, self._not_now())
            return
        try:
            split_key(put.key)
            check_put(put, len(local.members), local.routes.placement.replicas)
            if put.value is not None and len(put.value) > VALUE_BYTES_MAX:
                checked_value(put.value)
        except EverwriteError as error:
            local.fail(source, put.rid, error)
            return
        if not 0 < put.timeout_ms <= local.config.request_timeout_max_ms:
            put = msgspec.structs.replace(put, timeout_ms=self._timeout(put.timeout_ms))
        if put.forwarded:
            put = msgspec.structs.replace(put, forwarded=False)
        self._put(source, put)

    def _put(self, source: Place, put: Put) -> None:
        if self.late_ms:
            left = put.timeout_ms - self.late_ms
            if left <= 0:
                self.local.counters.expired += 1
                self.local.fail(source, put.rid, lay_too_long())
                return
            sometimes("a put that lay unread is taken for a retry")
            put = msgspec.structs.replace(put, timeout_ms=left, retry=True)
        self.writes.put(source, put)

    def _client_get(self, source: Place, get: Get) -> None:
        local = self.local
        if self._full() or not self.ready:
            local.fail(source, get.rid, self._not_now())
            return
        try:
            split_key(get.key)
            check_get(get, len(local.members), local.routes.placement.replicas)
        except EverwriteError as error:
            local.fail(source, get.rid, error)
            return
        if not 0 < get.timeout_ms <= local.config.request_timeout_max_ms:
            get = msgspec.structs.replace(get, timeout_ms=self._timeout(get.timeout_ms))
        if get.forwarded:
            get = msgspec.structs.replace(get, forwarded=False)
        self.reads.get(source, get)

    def _full(self) -> bool:
        """Say whether this node has as many requests, or as much in them, as it will take."""
        local = self.local
        config = local.config
        return (
            len(local.requests) - local.background >= config.in_flight_max
            or local.held_bytes >= config.held_bytes_max
        )

    def _client_fetch(self, source: Place, fetch: Fetch) -> None:
        if not self.ready:
            self.local.fail(source, fetch.rid, self._not_now())
            return
        try:
            split_key(fetch.key)
        except EverwriteError as error:
            self.local.fail(source, fetch.rid, error)
            return
        self.replica.fetch(source, fetch)

    def _timeout(self, asked_ms: int) -> int:
        config = self.local.config
        return config.request_timeout_ms if asked_ms <= 0 else config.request_timeout_max_ms

    def _not_now(self) -> EverwriteError:
        if self.ready:
            return too_busy(self.local)
        return UnavailableError(
            "This node is starting and does not know its cluster yet.",
            hint="Nothing was done. Try again in a moment, or ask another node.",
        )

    def _taken_over(self, message: TakenOver) -> None:
        if isinstance(message.request, Put):
            self.writes.take_over(message)
        else:
            self.reads.get(message.source, message.request)

    def _fetched(self, source: Place, reply: FetchReply) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.fetched(source, reply)
        else:
            sometimes("a copy comes after its request is over")

    def _stored(self, source: Place, reply: StoreReply) -> None:
        request = self.local.requests.get(reply.rid)
        if request is not None:
            request.stored(source, reply)
        elif reply.rid:
            sometimes("an ack comes after its request is over")

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
            aged = self._aged(source, message, waited) if waited else message
            if aged is not None:
                self.receive(source, aged)

    def _aged(self, source: Place, message: Message, waited_ms: int) -> Message | None:
        """Return a message that waited for the disk as it is now; None if its time is over, and its
        sender was told.
        """
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
