"""The coordinator of a put or delete (Dynamo 4.5, 4.6).

    Put -> [is it mine to coordinate?] -> [look around first?] -> mint the dot, write here -> Store
    to the others, and count acks (spread.py)

The node that coordinates is an owner, or stands in for one. It writes its own copy and sends the
others theirs at the same time; an epoch (core/data/epochs.py) makes that safe when this node dies
in between. Its own copy is acknowledged like any other, through the outbox, once it is as safe as
was asked.

A put that may be a retry, or that saw a dot which this node does not know, looks at the other
replicas first (``LookAround``). A put whose request id stands in the record was carried out: it is
not minted again, only brought to W nodes.

A change makes pieces of a data type of its operations (core/types/changing.py), on top of what is
known here. One that finds an earlier try of its own carried out makes none, and its results say
what is there now. One that changes nothing writes nothing new.

A touch is a put without a new dot: the copy here with later ends, brought to W nodes, each of which
raises the ends of what lives there. Where nothing lives here it looks around before it says so.
"""

from __future__ import annotations

from msgspec.structs import replace

from everwrite.core.cluster.routes import Route
from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.copies import is_plain
from everwrite.core.data import context, versions
from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import EMPTY, Actor, Record, Seen, Version
from everwrite.core.errors import BadContext, EverwriteError, InvariantError
from everwrite.core.hints.hints import NO_EPOCH, Hints
from everwrite.core.hints.kept import split_hint
from everwrite.core.local import Local, unreadable_here
from everwrite.core.measures import operation_of
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Put, PutReply, Touch
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, MISSING, OWN, STATE, Damaged
from everwrite.core.request.forward import Forward, TakenOver
from everwrite.core.request.limits import (
    cannot_tell,
    lost_sight,
    op_used_twice,
    record_too_large,
    time_unknown,
    too_busy,
    too_many_hints,
    too_many_siblings,
    waited_too_long,
)
from everwrite.core.request.look import LookAround, LookedAround, find_op
from everwrite.core.request.spread import PutRequest
from everwrite.core.types.changing import Changed, Writer, change, later_than, told_again
from everwrite.core.types.operations import decode

LEASE = STATE + b"lease"

_NO_RESULTS: list[int] = []


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

    def touch(self, source: Place, message: Touch) -> None:
        """A client's touch, or one that another node forwarded."""
        self._local.counters.touches += 1
        self._coordinate(source, message, message, looked=None)

    def take_over(self, message: TakenOver) -> None:
        """A put that the node to which it was forwarded did not answer."""
        if isinstance(message.request, Put):
            self._local.counters.puts += 1
        if isinstance(message.request, Put | Touch):
            self._coordinate(message.source, message.request, message, looked=None)

    def looked_around(self, message: LookedAround) -> None:
        self._coordinate(message.source, message.put, message, looked=message)

    def aged(self, source: Place, message: Message, waited_ms: int) -> Message | None:
        """Return a message that waited for the disk with the time that its put has left; None if
        that is over, and its client was told.
        """
        if isinstance(message, Put | Touch):
            client, put = source, message
        elif isinstance(message, LookedAround):
            client, put = message.source, message.put
        elif isinstance(message, TakenOver) and isinstance(message.request, Put | Touch):
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
            return replace(message, put=put)
        return TakenOver(client, put) if isinstance(message, TakenOver) else put

    def lease_kept(self, message: LeaseKept) -> None:
        self._local.epochs.extend(message.leased_to)
        self._local.leasing = False

    def _coordinate(
        self, source: Place, put: Put | Touch, parkable: Message, *, looked: LookedAround | None
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
            mine = route.first
            if mine == local.me:
                mine = b""
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
            sometimes("a put comes to a node that cannot read its copy")
            if not put.forwarded and Forward.start(local, source, put, route):
                return
            if not (mine and payload.corrupt):
                self._refuse(source, put, unreadable_here())
                return
            sometimes("a put's hint takes the place of a damaged one")
            payload = None  # nobody can read that hint any more: as in Hints.keep
        try:
            if isinstance(put, Touch):
                self._raise_ends(source, put, route, mine, payload, looked=looked)  # type: ignore[arg-type]
            else:
                self._carry_out(source, put, route, mine, payload, looked=looked)  # type: ignore[arg-type]
        except InvariantError:  # no answer to a client: the node stops
            raise
        except EverwriteError as error:
            self._refuse(source, put, error)

    def _refuse(self, source: Place, put: Put | Touch, error: EverwriteError) -> None:
        """Answer with an error. A retry is not told that surely nothing has happened: an earlier
        try, here or by the node that this one took the put over from, may have been carried out.
        """
        if put.retry and error.outcome == "none" and not isinstance(error, BadContext):
            sometimes("a retry is not told that nothing has happened")
            error.outcome = "unknown"
            error.hint = (
                "An earlier try may have been carried out. Repeat the put, or read the key."
            )
        self._local.fail(source, put, error)

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
        epoch, owners, data = _parts(payload, mine)
        if mine and mine not in owners and self._hints.full():
            raise self._no_room()
        own = base = versions.decode(data) if data else EMPTY
        fingerprint = local.fingerprint(data)
        if looked is not None and looked.record:
            base = versions.merge(base, versions.decode(looked.record))
        if looked is None and _must_look(put, seen, base, mine):
            LookAround(local, source, put, route, mine, base).begin()
            return
        if put.ttl_ms and not local.clock.known:
            raise time_unknown()
        carried_out, written = _earlier_try(base, put, looked)
        record, results = base, _NO_RESULTS
        if carried_out:
            local.counters.retries_recognised += 1
            if put.change:
                results = told_again(base, decode(put.value or b""), local.time_ms)
        elif put.change:
            changed, minted = self._change(base, epoch, put)
            record, results = changed.record, changed.results
            if changed.written:
                written, epoch = changed.written[-1], minted
            elif not base.clock:
                self._nothing_there(source, put, mine, looked, results)
                return
        else:
            if put.over:
                seen = self._all_known(base, seen)
            written, epoch = self._mint(base, epoch, put, seen)
            record = versions.put(base, seen, written)
        if record is not base:
            self._check_room(base, record)
            data = versions.encode(record)
            if len(data) > RECORD_BYTES_MAX:
                raise record_too_large(len(data))
        elif looked is not None and looked.record:
            data = versions.encode(base)
        if mine and not self._hints.room(put.key, owners, mine, data):
            raise self._no_room()
        request = PutRequest(local, source, put, route, mine, data)
        request.check_reach()
        request.unsure |= carried_out
        request.results = results
        request.ends = versions.end_of(record, written) if written is not None else 0
        if mine:
            self._hints.write(put.key, epoch, owners, mine, data)
        else:
            local.recent_puts.add(put.op)
            request.base, request.plain = fingerprint, is_plain(record) and is_plain(own)
            if request.plain and payload is not None:
                local.copies.write_plain(put.key, epoch + data)
            else:
                local.copies.write(put.key, epoch, data, payload, record=record, was=own)
        if versions.values_in(record.siblings) > 1:
            local.counters.siblings_met += 1
        if written is None:
            after = seen  # whoever superseded it since has covered it
        elif put.change:
            # Of what stands there its writer has seen nothing. Who knows the last piece knows all.
            after = Seen({}, [(written.actor, written.counter)])
        else:
            after = versions.seen_after(record, seen, written)
        shown = versions.values_in(versions.live(record, local.time_ms))
        request.begin(context.sign(local.context_key, put.key, after), shown)

    def _change(self, base: Record, epoch: bytes, put: Put) -> tuple[Changed, bytes]:
        """Return what a change makes of the record, and the epoch to keep beside that."""
        local = self._local
        if versions.has_end(base) and not local.clock.known:
            raise time_unknown()
        actor, epoch = self._actor(epoch)
        most = local.config.pieces_max
        writer = Writer(actor, put.op, local.time_ms, put.ttl_ms, most)
        changed = change(base, decode(put.value or b""), writer)
        local.counters.types_clashed += changed.clashes
        return changed, epoch

    def _all_known(self, base: Record, seen: Seen) -> Seen:
        """Return what a put supersedes that is to be the last: all that its coordinator knows."""
        local, known = self._local, versions.seen_by_read(base)
        if local.clock.known and versions.as_good_as_gone(base, known, local.time_ms):
            return seen
        return Seen(versions.join(known.clock, seen.clock), seen.dots)

    def _check_room(self, base: Record, record: Record) -> None:
        """Raise TooLarge for a write that leaves too many siblings that readers are shown apart."""
        most = self._local.config.siblings_max
        if len(record.siblings) > most and versions.plain_in(record.siblings) > most:
            raise too_many_siblings(versions.plain_in(base.siblings), most)

    def _nothing_there(
        self,
        source: Place,
        put: Put | Touch,
        mine: bytes,
        looked: LookedAround | None,
        results: list[int],
    ) -> None:
        """Answer that there is nothing to change: enough owners have said so."""
        local = self._local
        n = put.n or local.routes.placement.replicas
        heard = (looked.heard if looked is not None else 0) + (not mine)
        if heard <= n // 2:
            raise cannot_tell(heard, n // 2 + 1)
        local.measures.took[operation_of(put)].add(0)
        w = put.w or n // 2 + 1
        local.out.send(source, PutReply(put.rid, b"", 0, 0, 0, 0, w, results=results))

    def _raise_ends(
        self,
        source: Place,
        touch: Touch,
        route: Route,
        mine: bytes,
        payload: bytes | None,
        *,
        looked: LookedAround | None,
    ) -> None:
        """The local copy is at hand: give what lives in it a later end, or look around first."""
        local, time_ms = self._local, self._local.time_ms
        if not local.clock.known:
            raise time_unknown()
        epoch, owners, data = _parts(payload, mine)
        if mine and mine not in owners and self._hints.full():
            raise self._no_room()
        own = base = versions.decode(data) if data else EMPTY
        if looked is not None and looked.record:
            base = versions.merge(base, versions.decode(looked.record))
        shown = versions.live(base, time_ms)
        if not shown:
            if looked is None:
                LookAround(local, source, touch, route, mine, base).begin()
                return
            self._nothing_there(source, touch, mine, looked, _NO_RESULTS)
            return
        record = versions.touch(base, time_ms + touch.ttl_ms, time_ms)
        fingerprint, data = local.fingerprint(data), versions.encode(record)
        if mine and not self._hints.room(touch.key, owners, mine, data):
            raise self._no_room()
        request = PutRequest(local, source, touch, route, mine, data)
        request.check_reach()
        request.ends = versions.last_end(versions.live(record, time_ms))
        if mine:
            self._hints.write(touch.key, epoch, owners, mine, data)
        else:
            request.base, request.plain = fingerprint, is_plain(record) and is_plain(own)
            local.copies.write(touch.key, epoch, data, payload, record=record, was=own)
        # Without a context: who touches a key has not seen what stands there.
        request.begin(b"", len(shown))

    def _no_room(self) -> EverwriteError:
        """This node could only stand in, and its hints are at a cap."""
        self._local.counters.hints_refused += 1
        return too_many_hints(self._local, self._hints.notes, self._hints.kept.bytes)

    def _mint(self, base: Record, epoch: bytes, put: Put, seen: Seen) -> tuple[Version, bytes]:
        """Return the new version with its dot, and the epoch to keep beside the record."""
        local = self._local
        actor, epoch = self._actor(epoch)
        counter = versions.next_counter(base, actor)
        if seen.clock.get(actor, 0) >= counter:
            raise BadContext("The context names a write that this node never made.")
        time_ms = local.time_ms
        expires = time_ms + put.ttl_ms if put.ttl_ms else 0
        if put.over:
            time_ms = later_than(base, time_ms)
        pure = versions.is_pure(seen, expires)
        op, kind = put.op, put.kind
        return Version(actor, counter, put.value, time_ms, op, kind, expires, pure), epoch

    def _actor(self, epoch: bytes) -> tuple[Actor, bytes]:
        """Return under which actor this node goes on in a record, from the epoch that is kept
        beside it, and the epoch to keep then.
        """
        local = self._local
        number = int.from_bytes(epoch, "big")
        if not number or not local.epochs.continues(number):
            if local.epochs.lease_due and not local.leasing:
                self._lease()
            if number:
                sometimes("a key goes on under a new epoch")
            number = local.epochs.fresh()
            epoch = number.to_bytes(8, "big")
        return local.epochs.actor(number), epoch

    def _lease(self) -> None:
        local = self._local
        leased_to = local.epochs.next_lease()
        local.leasing = True
        local.records.write(LEASE, leased_to.to_bytes(8, "big"))
        local.out.on_sync.append((local.me, LeaseKept(leased_to)))


def _parts(payload: bytes | None, mine: bytes) -> tuple[bytes, dict[bytes, int], bytes]:
    """Return (own epoch, owners of a hint, record) of the copy at hand; ``mine`` as in a route."""
    if payload is None:
        return NO_EPOCH, {}, b""
    return split_hint(payload) if mine else (payload[:8], {}, payload[8:])


def _must_look(put: Put, seen: Seen, base: Record, mine: bytes) -> bool:
    """Say whether a put needs to know what other replicas have before it is made.

    A retry does, and a put that names what its coordinator does not know. So does a change, or a
    put over all there is, of a node that only stands in, or has nothing: it would find nothing to
    take away, and tell of a counter that begins anew. (A value put over nothing is the last one all
    the same.)
    """
    if put.retry:
        return True
    if seen.dots and versions.unknown_dots(base, seen):
        sometimes("a put names a dot that its coordinator does not know")
        return True
    if put.change:
        return bool(mine) or not base.clock or not versions.descends(base.clock, seen.clock)
    return put.over and (bool(mine) or (put.value is None and not base.clock))


def _earlier_try(
    base: Record, put: Put, looked: LookedAround | None
) -> tuple[bool, Version | None]:
    """Return whether an earlier try of this put was carried out, and what it wrote if that can
    be told: what was superseded since must not be minted again, or it would come back.
    """
    known = find_op(base, put.op)
    if known is not None:
        ended = known.value is None and known.expires
        same = (known.value, known.kind) == (put.value, put.kind)
        if put.change:
            same = known.kind == KIND_PIECE
        if not same and not ended:
            raise op_used_twice(retry=put.retry)
        sometimes("a retry finds its put in the record")
        return True, known
    if looked is None:
        return False, None
    found = looked.found
    if found is not None:
        if not versions.covers(base.clock, found.actor, found.counter):
            raise lost_sight()
        sometimes("a retry finds that its put was superseded meanwhile")
        return True, found
    if looked.known is not None:
        if not base.clock or not versions.descends(base.clock, looked.known):
            raise lost_sight()
        sometimes("a retry of a put that is on no record is recognised")
        return True, None
    return False, None
