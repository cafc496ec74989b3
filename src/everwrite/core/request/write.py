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
"""

from __future__ import annotations

from msgspec.structs import replace

from everwrite.core.cluster.routes import Route
from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.data import context, versions
from everwrite.core.data.versions import EMPTY, Record, Seen, Version
from everwrite.core.errors import BadContext, EverwriteError, InvariantError
from everwrite.core.local import Local, unreadable_here
from everwrite.core.messages import Message, Put
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, MISSING, OWN, STATE, Damaged
from everwrite.core.repair.hints import NO_EPOCH, Hints, split_hint
from everwrite.core.request.forward import Forward, TakenOver
from everwrite.core.request.limits import (
    lost_sight,
    op_used_twice,
    record_too_large,
    too_busy,
    too_many_hints,
    too_many_siblings,
    waited_too_long,
)
from everwrite.core.request.look import LookAround, LookedAround, find_op
from everwrite.core.request.spread import PutRequest

LEASE = STATE + b"lease"


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
            return replace(message, put=put)
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
            self._carry_out(source, put, route, mine, payload, looked=looked)  # type: ignore[arg-type]
        except InvariantError:  # no answer to a client: the node stops
            raise
        except EverwriteError as error:
            self._refuse(source, put, error)

    def _refuse(self, source: Place, put: Put, error: EverwriteError) -> None:
        """Answer with an error. A retry is not told that surely nothing has happened: an earlier
        try, here or by the node that this one took the put over from, may have been carried out.
        """
        if put.retry and error.outcome == "none" and not isinstance(error, BadContext):
            sometimes("a retry is not told that nothing has happened")
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
        epoch, owners, data = _parts(payload, mine)
        if mine and mine not in owners and self._hints.full():
            local.counters.hints_refused += 1
            raise too_many_hints(local)
        base = versions.decode(data) if data else EMPTY
        fingerprint = local.fingerprint(data)
        if looked is not None and looked.record:
            base = versions.merge(base, versions.decode(looked.record))
        if looked is None and (put.retry or (seen.dots and versions.unknown_dots(base, seen))):
            if not put.retry:
                sometimes("a put names a dot that its coordinator does not know")
            LookAround(local, source, put, route, mine, base).begin()
            return
        carried_out, written = _earlier_try(base, put, looked)
        if carried_out:
            local.counters.retries_recognised += 1
            record = base
            if looked is not None and looked.record:
                data = versions.encode(record)
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
            local.recent_puts.add(put.op)
            request.base = fingerprint
        request.unsure |= carried_out
        if mine:
            self._hints.write(put.key, epoch, owners, mine, b"", data)
        else:
            local.records.write(OWN + put.key, epoch + data)
        if len(record.siblings) > 1:
            local.counters.siblings_met += 1
        # What was superseded since needs no covering: whoever superseded it has covered it.
        after = versions.seen_after(record, seen, written) if written is not None else seen
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
            if number:
                sometimes("a key goes on under a new epoch")
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


def _parts(payload: bytes | None, mine: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Return (own epoch, owners of a hint, record) of the copy at hand; ``mine`` as in a route."""
    if payload is None:
        return NO_EPOCH, [], b""
    return split_hint(payload) if mine else (payload[:8], [], payload[8:])


def _earlier_try(
    base: Record, put: Put, looked: LookedAround | None
) -> tuple[bool, Version | None]:
    """Return whether an earlier try of this put was carried out, and what it wrote if that can
    be told: what was superseded since must not be minted again, or it would come back.
    """
    known = find_op(base, put.op)
    if known is not None:
        if (known.value, known.kind) != (put.value, put.kind):
            raise op_used_twice()
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
        if not versions.descends(base.clock, looked.known):
            raise lost_sight()
        sometimes("a retry of a put that is on no record is recognised")
        return True, None
    return False, None
