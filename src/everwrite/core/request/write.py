"""The coordinator of a put or delete (Dynamo 4.5, 4.6).

    Put -> [is it mine to coordinate?] -> [look around first?] -> mint the dot, write here, Store to
    the others
        -> W acks: answer -> all acks, or silence: stand-ins get hints -> over

The node that coordinates is an owner, or stands in for one. It writes its own copy and sends the
others theirs at the same time; an epoch (core/data/epochs.py) makes that safe when this node dies
in between. Its own copy is acknowledged like any other, through the outbox, once it is as safe as
was asked.

A put that may be a retry, or that saw a dot which this node does not know, looks at the other
replicas first (``LookAround``). A put whose request id stands in the record was carried out: it is
not minted again, only brought to W nodes.

An owner that stays silent for ``spare_after_ms``, refuses, or goes down gets a stand-in with a
hint, whether or not the put was answered by then, and so does a stand-in. When nobody can stand in,
this node keeps the hint beside its own copy.
"""

from __future__ import annotations

from msgspec.structs import replace

from everwrite.core.cluster.routes import Route
from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.data import context, versions
from everwrite.core.data.versions import EMPTY, Record, Seen, Version
from everwrite.core.errors import (
    BadContext,
    EverwriteError,
    Outcome,
    QuorumNotMet,
)
from everwrite.core.local import Local, Request, unreadable_here
from everwrite.core.messages import (
    STORED,
    SYNC_BOTH,
    SYNC_NO,
    SYNC_YES,
    Message,
    Put,
    PutReply,
    Store,
    StoreReply,
)
from everwrite.core.outbox import Place
from everwrite.core.records import HINT, MISSING, OWN, STATE, Damaged
from everwrite.core.repair.hints import NO_EPOCH, Hints, split_hint
from everwrite.core.request.forward import Forward, TakenOver
from everwrite.core.request.limits import (
    not_taken_in,
    record_too_large,
    too_busy,
    too_many_hints,
    too_many_siblings,
    waited_too_long,
)
from everwrite.core.request.look import LookAround, LookedAround, find_op

LEASE = STATE + b"lease"
_NOBODY: frozenset[Place] = frozenset()


class LeaseKept(Message, frozen=True, tag=103):
    """To oneself: the lease of epochs up to here is durable."""

    leased_to: int


class Writes:
    """The put coordinator of one node."""

    def __init__(self, local: Local, hints: Hints) -> None:
        self._local = local
        self._hints = hints

    def put(self, source: Place, message: Put) -> None:
        """A client's put, or one that another node forwarded."""
        self._local.counters.puts += 1
        self._coordinate(source, message, message, looked=None)

    def take_over(self, message: TakenOver) -> None:
        """A put that the node to which it was forwarded did not answer."""
        self._local.counters.puts += 1
        if isinstance(message.request, Put):
            self._coordinate(message.source, message.request, message, looked=None)

    def looked_around(self, message: LookedAround) -> None:
        self._coordinate(message.source, message.put, message, looked=message)

    def aged(self, source: Place, message: Message, waited_ms: int) -> Message | None:
        """Return a message that waited for the disk with the time that its put has left; None if
        that is over, and its client was told.
        """
        if isinstance(message, Put):
            client, put = source, message
        elif isinstance(message, LookedAround):
            client, put = message.source, message.put
        elif isinstance(message, TakenOver) and isinstance(message.request, Put):
            client, put = message.source, message.request
        else:
            return message
        left = put.timeout_ms - waited_ms
        if left <= 0:
            self._local.counters.expired += 1
            self._refuse(client, put, waited_too_long())
            return None
        put = replace(put, timeout_ms=left)
        if isinstance(message, LookedAround):
            return LookedAround(client, put, message.found)
        return TakenOver(client, put) if isinstance(message, TakenOver) else put

    def lease_kept(self, message: LeaseKept) -> None:
        self._local.epochs.extend(message.leased_to)
        self._local.leasing = False

    def _coordinate(
        self, source: Place, put: Put, parkable: Message, *, looked: LookedAround | None
    ) -> None:
        """Serve a put of ``source``; ``parkable`` is the message that has it in, and comes again
        if the disk must be read first: from ``source``, or from this node itself.
        """
        local = self._local
        sender = source if parkable is put else local.me
        route = local.routes.route(put.key, put.n)
        mine = route.mine
        if mine is None:
            if not put.forwarded and route.targets:
                Forward.start(local, source, put, route)
                return
            mine = route.owners[0]
        key = put.key
        disk_key = OWN + key if not mine else HINT + key
        payload = local.records.look(disk_key)
        if payload is MISSING:
            if mine and not self._hints.may_be_kept(key):
                payload = None  # the index knows every hint on disk
            elif not local.records.park(disk_key, sender, parkable, local.now):
                self._refuse(source, put, too_busy(local))
                return
            else:
                return
        if isinstance(payload, Damaged):
            local.counters.unreadable += 1
            if put.forwarded or not Forward.start(local, source, put, route):
                self._refuse(source, put, unreadable_here())
            return
        try:
            self._carry_out(source, put, route, mine, payload, looked=looked)  # type: ignore[arg-type]
        except EverwriteError as error:
            self._refuse(source, put, error)

    def _refuse(self, source: Place, put: Put, error: EverwriteError) -> None:
        """Answer with an error. A retry is not told that surely nothing has happened: an earlier
        try, here or by the node that this one took the put over from, may have been carried out.
        """
        if put.retry and error.outcome == "none" and not isinstance(error, BadContext):
            error.outcome = "unknown"
            error.hint = (
                "An earlier try may have been carried out. Repeat the put, or read the key."
            )
        self._local.fail(source, put.rid, error)

    def _carry_out(
        self,
        source: Place,
        put: Put,
        route: Route,
        mine: bytes,
        payload: bytes | None,
        *,
        looked: LookedAround | None,
    ) -> None:
        """The local copy is at hand: mint and send, or look around first."""
        local = self._local
        seen = context.verify(local.context_key, put.key, put.context)
        if payload is None:
            epoch, owners, data = NO_EPOCH, list[bytes](), b""
        elif mine:
            epoch, owners, data = split_hint(payload)
        else:
            epoch, owners, data = payload[:8], list[bytes](), payload[8:]
        if mine and mine not in owners and self._hints.full():
            local.counters.hints_refused += 1
            raise too_many_hints(local)
        base = versions.decode(data) if data else EMPTY
        fingerprint = local.fingerprint(data)
        if looked is None and (put.retry or (seen.dots and versions.unknown_dots(base, seen))):
            LookAround(local, source, put, route, mine, base).begin()
            return
        known = find_op(base, put.op)
        if known is None and looked is not None and looked.found is not None:
            known = looked.found  # superseded since, perhaps: minted again it would come back
            if not versions.covers(base.clock, known.actor, known.counter):
                raise not_taken_in()
        written = known
        if written is not None:
            local.counters.retries_recognised += 1
            record = base
        else:
            written, epoch = self._mint(base, epoch, put, seen)
            record = versions.put(base, seen, written)
            if len(record.siblings) > local.config.siblings_max:
                raise too_many_siblings(len(base.siblings), local.config.siblings_max)
            data = versions.encode(record)
            if len(data) > RECORD_BYTES_MAX:
                raise record_too_large(len(data))
        request = PutRequest(local, source, put, route, mine, data)
        request.check_reach()
        if not mine:
            request.base = fingerprint
        request.unsure |= known is not None
        if mine:
            self._hints.write(put.key, epoch, owners, mine, b"", data)
        else:
            local.records.write(OWN + put.key, epoch + data)
            local.has_data = True
        if len(record.siblings) > 1:
            local.counters.siblings_met += 1
        after = versions.seen_after(record, seen, written)
        shown = (
            1 if len(record.siblings) == 1 and put.value is not None else len(versions.live(record))
        )
        request.begin(context.sign(local.context_key, put.key, after), shown)

    def _mint(self, base: Record, epoch: bytes, put: Put, seen: Seen) -> tuple[Version, bytes]:
        """Return the new version with its dot, and the epoch to keep beside the record."""
        local = self._local
        number = int.from_bytes(epoch, "big")
        if not number or not local.epochs.continues(number):
            if local.epochs.lease_due and not local.leasing:
                self._lease()
            number = local.epochs.fresh()
            epoch = number.to_bytes(8, "big")
        actor = local.epochs.actor(number)
        counter = versions.next_counter(base, actor)
        if seen.clock.get(actor, 0) >= counter:
            raise BadContext("The context names a write that this node never made.")
        time_ms = local.now + local.wall_offset_ms
        return Version(actor, counter, put.value, time_ms, put.op, put.kind), epoch

    def _lease(self) -> None:
        local = self._local
        leased_to = local.epochs.next_lease()
        local.leasing = True
        local.records.write(LEASE, leased_to.to_bytes(8, "big"))
        local.out.on_sync.append((local.me, LeaseKept(leased_to)))


class PutRequest(Request):
    """A put whose copies are on their way.

    ``pending``: each node that has not answered yet, and the owner whom it stands in for (empty:
    itself an owner).
    """

    __slots__ = (
        "_answered",
        "_context",
        "_data",
        "_deadline",
        "_durable",
        "_dw",
        "_fallbacks",
        "_half",
        "_late",
        "_local",
        "_owners",
        "_put",
        "_refused",
        "_rid",
        "_siblings",
        "_source",
        "_spares",
        "_sync",
        "_unheld",
        "_w",
        "base",
        "pending",
        "unsure",
    )

    def __init__(
        self, local: Local, source: Place, put: Put, route: Route, mine: bytes, data: bytes
    ) -> None:
        self._local = local
        self._source = source
        self._put = put
        self._data = data
        n = put.n or local.routes.placement.replicas
        self._w = w = put.w or n // 2 + 1
        self._dw = dw = put.dw if put.dw >= 0 else (w if local.fsync else 0)
        self._sync = SYNC_NO if not dw else SYNC_YES if dw >= w else SYNC_BOTH
        self.pending = dict(route.targets)
        if local.me not in self.pending:
            self.pending[local.me] = mine
        self._spares = [node for node in route.spares if node != local.me] if route.spares else []
        self._unheld = route.unheld
        self._half = self._late = _NOBODY
        self._owners = self._fallbacks = self._durable = self._refused = 0
        self._answered = False
        self.base = b""
        """The fingerprint of the copy that the record was made from; empty: the others join."""
        self.unsure = put.retry
        """Whether the write may stand somewhere although nobody has said so."""
        self._context = b""
        self._siblings = 0
        self._rid = 0
        self._deadline = local.now + put.timeout_ms

    def check_reach(self) -> None:
        """Refuse before anything is written if too few nodes are up."""
        pending = self.pending
        if len(pending) >= self._w and len(pending) >= self._dw and not self._put.strict:
            return
        reach = sum(not owner for owner in pending.values()) if self._put.strict else len(pending)
        if reach < self._w or len(pending) < self._dw:
            self._local.counters.quorum_failures += 1
            raise QuorumNotMet(
                f"Only {reach} of the {self._w} nodes that must take this write can be reached.",
                hint="Nothing was written. Try again, or write with a smaller w.",
                required=self._w,
            )

    def begin(self, token: bytes, siblings: int) -> None:
        """The copy here is written with this tick: send the others theirs, and count our own."""
        local, put = self._local, self._put
        self._context = token
        self._siblings = siblings
        spare_at = local.now + local.config.spare_after_ms
        self._rid = rid = local.open_request(self, min(spare_at, self._deadline))
        out, me, key, data, sync = local.out, local.me, put.key, self._data, self._sync
        plain = Store(rid, key, data, put.timeout_ms, sync, b"", False, self.base)
        for node, owner in self.pending.items():
            if node == me:
                local.acknowledge(me, plain)
            elif owner:
                out.send(node, Store(rid, key, data, put.timeout_ms, sync, owner))
            else:
                out.send(node, plain)
        for owner in self._unheld:
            self._note_here(owner)

    def stored(self, source: Place, reply: StoreReply) -> None:
        owner = self.pending.get(source)  # type: ignore[arg-type]
        if owner is None:
            return
        if reply.status != STORED:
            self._refused += 1
            if source == self._local.me:
                # The batch was not written. But others of this tick may have read the copy from the
                # cache, or sent it on with a write of their own.
                self.unsure = True
            self._gone(source, owner)
            return
        if source in self._half:
            self._half -= {source}
        elif owner:
            self._fallbacks += 1
        else:
            self._owners += 1
        if reply.durable:
            self._durable += 1
        if self._sync == SYNC_BOTH and not reply.durable:
            self._half |= {source}
        else:
            del self.pending[source]  # type: ignore[arg-type]
        if not self._answered and self._met():
            self._answer()
        if not self.pending:
            self._check_end()

    def lost(self, peer: bytes) -> None:
        owner = self.pending.get(peer)
        if owner is not None:
            self.unsure = True
            self._gone(peer, owner)

    def wake(self) -> None:
        """Give whoever was asked and is silent a stand-in, stand-ins too, until somebody has each
        copy.
        """
        local = self._local
        if local.now >= self._deadline and not self._answered:
            self._fail("in time")
            return
        settled = {local.me, *self._half, *self._late}
        silent = [(node, owner) for node, owner in self.pending.items() if node not in settled]
        if self._answered:
            self.pending.clear()
        for node, owner in silent:
            self._late |= {node}
            self._stand_in(node, owner)
        if self._answered and not self.pending:
            del local.requests[self._rid]
            return
        soon = local.now + local.config.spare_after_ms
        local.wake_at(self._rid, soon if self._answered else min(soon, self._deadline))

    def _gone(self, node: Place, owner: bytes) -> None:
        """A node will not take the copy: somebody else must, unless it was late and somebody
        does.
        """
        del self.pending[node]  # type: ignore[arg-type]
        if node not in self._late:
            self._stand_in(node, owner)
        self._check_end()

    def _met(self) -> bool:
        acks = self._owners if self._put.strict else self._owners + self._fallbacks
        return acks >= self._w and self._durable >= self._dw

    def _answer(self) -> None:
        self._answered = True
        self._local.out.send(
            self._source,
            PutReply(
                self._put.rid,
                self._context,
                self._owners,
                self._fallbacks,
                self._durable,
                self._siblings,
                self._w,
            ),
        )

    def _stand_in(self, node: Place, owner: bytes) -> None:
        """Somebody else keeps the copy for the owner whom ``node`` should have kept it for."""
        whom = owner or node
        local, put = self._local, self._put
        if self._spares:
            spare = self._spares.pop(0)
            self.pending[spare] = whom  # type: ignore[assignment]
            local.counters.hedges += 1
            left = max(self._deadline - local.now, local.config.spare_after_ms)
            local.out.send(spare, Store(self._rid, put.key, self._data, left, self._sync, whom))  # type: ignore[arg-type]
        elif whom != local.me:
            self._note_here(whom)  # type: ignore[arg-type]

    def _note_here(self, owner: bytes) -> None:
        """Keep a hint beside our own copy; it counts for nothing, but the owner will get
        its copy.
        """
        self.unsure = True
        store = Store(0, self._put.key, self._data, self._put.timeout_ms, SYNC_NO, owner)
        self._local.out.send(self._local.me, store)

    def _check_end(self) -> None:
        """Nobody is left to answer: if the quorum was not met by now, it will not be."""
        if self.pending:
            return
        if self._answered:
            del self._local.requests[self._rid]
        else:
            self._fail("")

    def _fail(self, when: str) -> None:
        local = self._local
        del local.requests[self._rid]
        local.counters.quorum_failures += 1
        acked = self._owners if self._put.strict else self._owners + self._fallbacks
        outcome: Outcome = "none"
        if self._owners + self._fallbacks:
            outcome = "partial"
        elif self.pending or self.unsure:
            outcome = "unknown"
        what = f"{acked} of the {self._w} nodes that must take this write did {when}".rstrip()
        if acked >= self._w:
            need = f"the {self._dw} nodes that must fsync this write"
            what = f"Only {self._durable} of {need} did {when}".rstrip()
        hint = "The write may appear later. Repeat it with the same context."
        if outcome == "none":
            hint = "Nothing was written."
        if self._refused:
            what += f", {self._refused} refused it"
            hint += " Their logs say why: is a disk full?"
        local.fail(
            self._source,
            self._put.rid,
            QuorumNotMet(
                f"{what}.",
                hint=hint,
                outcome=outcome,
                acked=acked,
                required=self._w,
            ),
        )
