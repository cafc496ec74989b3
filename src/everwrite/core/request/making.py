"""What a put makes of the record at hand: a version, the pieces of a change, or nothing new.

    what is known of the key, a put -> the dot is minted -> the record to store and send

A put whose request id stands in the record was carried out: it is not minted again. A change makes
pieces of a data type of its operations (core/types/changing.py), on top of all that is known here;
one that finds an earlier try of its own makes none, and its results say what is there now; one that
changes nothing leaves the record as it is. Dots go on where this node can prove that it holds all
that it minted of the key (core/data/epochs.py).
"""

from __future__ import annotations

from typing import NamedTuple

from everwrite.core.data import context, versions
from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import Actor, Record, Seen, Version
from everwrite.core.errors import BadContext, StaleSession
from everwrite.core.local import Local
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Put
from everwrite.core.probes import sometimes
from everwrite.core.records import STATE
from everwrite.core.request.limits import (
    lost_sight,
    op_used_twice,
    time_unknown,
    too_many_siblings,
)
from everwrite.core.request.look import LookedAround, find_op
from everwrite.core.types.beside import PlainBeside, way_out
from everwrite.core.types.changing import Writer, change, later_than, told_again
from everwrite.core.types.operations import decode_trusted

LEASE = STATE + b"lease"

_NO_RESULTS: list[int] = []
_NO_IDS: list[bytes] = []


class LeaseKept(Message, frozen=True, tag=103):
    """To oneself: the lease of epochs up to here is durable."""

    leased_to: int


class Made(NamedTuple):
    """What a put has come to."""

    record: Record
    """The very record that it was made of if nothing is new."""
    epoch: bytes
    """To be kept beside the record."""
    seen: Seen
    """What the put's writer has seen of the key once it is stored."""
    ends: int = 0
    """When what it wrote ends; 0: never."""
    results: list[int] = _NO_RESULTS
    carried_out: bool = False
    """An earlier try was: this one only brings it to W nodes."""
    increments: list[bytes] = _NO_IDS
    """The ids of what it has added to counters."""


class Making:
    """Makes records of puts."""

    def __init__(self, local: Local) -> None:
        self._local = local

    def make(
        self, put: Put, base: Record, epoch: bytes, seen: Seen, looked: LookedAround | None
    ) -> Made:
        """Return what a put makes of what is known here; ``epoch`` is kept beside that."""
        local = self._local
        if put.change and looked is not None:
            self._check_known(put, base, seen, looked)
        carried_out, found = _earlier_try(base, put, looked)
        if carried_out:
            local.counters.retries_recognised += 1
            results = _NO_RESULTS
            if put.change:
                results = told_again(base, decode_trusted(put.value or b""), local.time_ms)
            if found is None:
                return Made(base, epoch, seen, results=results, carried_out=True)
            after, ends = _seen_after(put, base, seen, found), versions.end_of(base, found)
            return Made(base, epoch, after, ends, results, carried_out=True)
        if put.change:
            return self._change(put, base, epoch, seen)
        if put.over:
            seen = self._all_known(base, seen)
        written, epoch = self._mint(base, epoch, put, seen)
        record = versions.put(base, seen, written)
        self._check_room(base, record)
        after = versions.seen_after(record, seen, written)
        return Made(record, epoch, after, versions.end_of(record, written))

    def _change(self, put: Put, base: Record, epoch: bytes, seen: Seen) -> Made:
        """Return what a change makes of a record."""
        local = self._local
        if versions.has_end(base) and not local.clock.known:
            raise time_unknown()
        actor, minted = self._actor(epoch)
        most = local.config.pieces_max
        local.unsettled.forget(local.now)
        writer = Writer(actor, put.op, local.time_ms, put.ttl_ms, most, unsettled=local.unsettled)
        try:
            changed = change(base, decode_trusted(put.value or b""), writer)
        except PlainBeside as error:
            token = context.sign(local.context_key, put.key, Seen({}, sorted(error.dots)))
            error.hint = way_out(token)
            raise
        if changed.earlier is not None:
            sometimes("a change finds a later piece of an earlier try")
            local.counters.retries_recognised += 1
            results = told_again(base, decode_trusted(put.value or b""), local.time_ms)
            after = _seen_after(put, base, seen, changed.earlier)
            ends = versions.end_of(base, changed.earlier)
            return Made(base, epoch, after, ends, results, carried_out=True)
        local.counters.types_clashed += changed.clashes
        if not changed.written:
            return Made(base, epoch, seen, results=changed.results)
        record, written = changed.record, changed.written[-1]
        self._check_room(base, record)
        ends = versions.end_of(record, written)
        after = _seen_after(put, record, seen, written)
        increments = [op for op in changed.increments if op]
        return Made(record, minted, after, ends, changed.results, increments=increments)

    def _check_known(self, put: Put, base: Record, seen: Seen, looked: LookedAround) -> None:
        """Raise StaleSession for a change whose writer has seen what is not known here: it would
        not take away what it was meant to. What no member knows any more was forgotten by all.
        """
        if versions.knows(base, seen):
            return
        if self._local.is_over(seen.ends) or looked.nobody_knows:
            return
        sometimes("a change is refused since its writer may have seen more")
        raise StaleSession(
            "The nodes that answered have not seen what the writer of this change has seen.",
            hint="Nothing was changed. Try again when more nodes are up.",
        )

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

    def lease_kept(self, message: LeaseKept) -> None:
        self._local.epochs.extend(message.leased_to)
        self._local.leasing = False


def must_look(put: Put, seen: Seen, base: Record, mine: bytes) -> bool:
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


def _seen_after(put: Put, record: Record, seen: Seen, written: Version) -> Seen:
    """Return what a put's writer has seen once it is carried out. A change's has seen nothing of
    what stands there but its own pieces: the last one's dot, since who knows it knows all of them.
    It stands for all that is in the record, so it is over when all of that may be gone.
    """
    if put.change:
        ends = versions.seen_by_read(record).ends
        return Seen({}, [(written.actor, written.counter)], ends)
    return versions.seen_after(record, seen, written)


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
