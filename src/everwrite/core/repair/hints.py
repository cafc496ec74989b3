"""Hints: copies that this node keeps for owners that were down, and how they get home (Dynamo 4.6).

One copy per key, merged, with the list of owners it is for:

    disk key    b"h" + data key
    payload     own epoch (8), count (1), owners (8 each), record

The index of what is kept lives in memory (at most ``hints_max`` notes) and is made anew from disk
at the start. Delivery is paced: at most ``hint_batch`` copies are on their way to one owner, and
the next goes when one is acknowledged, so a returning node sets the pace. A note is struck out only
after the owner's durable ack, and only if the copy is still the one that was sent. At the cap new
hints are refused, and the coordinator hears of it: nothing is dropped.
"""

from __future__ import annotations

from everwrite.core.data import versions
from everwrite.core.errors import ProtocolError, check
from everwrite.core.local import Local, Request
from everwrite.core.messages import (
    REFUSED,
    STORED,
    SYNC_YES,
    UNREADABLE,
    Get,
    Message,
    Store,
    StoreReply,
)
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, MISSING, Damaged

NO_EPOCH = bytes(8)


class Deliver(Message, frozen=True, tag=100):
    """To oneself: send the copy of this key to this owner."""

    key: bytes
    owner: bytes


class Delivered(Message, frozen=True, tag=101):
    """To oneself: the owner has this copy for good; strike it out if it is still this one."""

    key: bytes
    owner: bytes
    record: bytes


class Recount(Message, frozen=True, tag=106):
    """To oneself: see which hints for this key are on the disk."""

    key: bytes


class Mend(Message, frozen=True, tag=107):
    """To oneself: read this key, knowing this record, and give all owners what they lack."""

    get: Get
    record: bytes


def split_hint(payload: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Return (own epoch, owners, record) of a hint's payload."""
    count = payload[8]
    end = 9 + 8 * count
    check(len(payload) >= end, "a hint names all its owners", payload=payload[:16])
    return payload[:8], [payload[at : at + 8] for at in range(9, end, 8)], payload[end:]


def join_hint(epoch: bytes, owners: list[bytes], record: bytes) -> bytes:
    """Return the payload of a hint; its owners in order, so that equal hints are equal bytes."""
    return epoch + bytes((len(owners),)) + b"".join(sorted(owners)) + record


class Hints:
    """The hints of one node."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self.owners_of: dict[bytes, list[bytes]] = {}
        """For each data key the owners for whom a copy is kept."""
        self.waiting: dict[bytes, dict[bytes, int]] = {}
        """For each owner the data keys that wait for it, the next one first, with the time since
        when.
        """
        self.notes = 0
        self.turned = 0
        """Notes beyond the cap that a change of owners may have made, in all."""
        self.uncertain: dict[bytes, None] = {}
        """Data keys of which the index may be wrong, since a batch was not written or the disk
        would not give the copy.
        """
        self.rotten: set[bytes] = set()
        """Data keys whose copy is damaged for good: not read in each pass, and never absent."""
        self._flying: dict[bytes, set[bytes]] = {}
        self._not_before: dict[bytes, int] = {}

    # -- keeping -----------------------------------------------------------------------------------

    def restore(self, data_key: bytes, payload: bytes) -> None:
        """At the start: take note of a hint found on disk."""
        for owner in split_hint(payload)[1]:
            self._note(data_key, owner)

    def restore_unreadable(self, data_key: bytes) -> None:
        """At the start: there is a hint that cannot be read, so nobody knows for whom it is."""
        sometimes("a hint cannot be read at the start")
        self.uncertain[data_key] = None

    def doubt(self, data_key: bytes) -> None:
        """A hint of this key was written or struck out in vain: the disk must be looked at."""
        self.uncertain[data_key] = None
        self.recount(Recount(data_key))

    def recount(self, message: Recount) -> None:
        """Let the index say what stands on the disk. Until it does nothing is taken for absent."""
        local, key = self._local, message.key
        payload = local.records.look(HINT + key)
        if payload is MISSING:
            # At the cap of parked messages the next pass tries again.
            local.records.park(HINT + key, local.me, message, local.now)
            return
        if isinstance(payload, Damaged) and not payload.corrupt:
            sometimes("a hint cannot be read to count it again")
            return
        self.uncertain.pop(key, None)
        if isinstance(payload, Damaged):
            sometimes("a hint that nobody knows the owner of is damaged for good")
            self.rotten.add(key)
        known = not isinstance(payload, Damaged) and payload is not None
        kept = split_hint(payload)[1] if known else []  # type: ignore[arg-type]
        for owner in list(self.owners_of.get(key, ())):
            if owner not in kept:
                sometimes("a hint that was noted is not on the disk")
                self._strike(key, owner)
        for owner in kept:
            if owner not in self.owners_of.get(key, ()):
                sometimes("a hint on the disk was not noted")
            self._note(key, owner)

    def may_be_kept(self, key: bytes) -> bool:
        """Say whether a copy of this key may be on the disk; the index knows every other one."""
        return key in self.owners_of or key in self.uncertain or key in self.rotten

    def full(self) -> bool:
        return self.notes >= self._local.config.hints_max

    def record_of(self, payload: bytes) -> bytes:
        return payload[9 + 8 * payload[8] :]

    def keep(self, source: Place, message: Store) -> None:
        """Store a copy for an owner that is down; refuse it at the cap."""
        local = self._local
        key, owner = message.key, message.hint_for
        known = self.owners_of.get(key)
        if local.closing or local.members.removed(local.me):
            local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        if self.full() and (known is None or owner not in known):
            local.counters.hints_refused += 1
            sometimes("a hint is refused at the cap")
            local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        payload = local.records.look(HINT + key)
        if payload is MISSING:
            if self.may_be_kept(key):
                if not local.records.park(HINT + key, source, message, local.now):
                    local.out.send(source, StoreReply(message.rid, REFUSED, False))
                return
            payload = None  # the index knows every hint on disk, so there is nothing to read
        if isinstance(payload, Damaged):
            if not payload.corrupt:
                sometimes("a hint is refused where the one before it cannot be read")
                local.out.send(source, StoreReply(message.rid, UNREADABLE, False))
                return
            sometimes("a hint takes the place of a damaged one")
            payload = None
        try:
            versions.validate(versions.decode(message.record))
        except ProtocolError:
            local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        epoch, owners, record = split_hint(payload) if payload else (NO_EPOCH, [], b"")  # type: ignore[arg-type]
        self.write(key, epoch, owners, owner, record, message.record)
        local.acknowledge(source, message)

    def write(
        self,
        key: bytes,
        epoch: bytes,
        owners: list[bytes],
        owner: bytes,
        mine: bytes,
        theirs: bytes,
    ) -> None:
        """Write the join of the copy here and the one that came, for these owners and one more."""
        noted = self.owners_of.get(key)
        if noted:  # where the copy before was damaged only the index knows for whom it was
            owners = [*owners, *(each for each in noted if each not in owners)]
        if owner not in owners:
            if owners:
                sometimes("one copy is kept for one more owner")
            owners = [*owners, owner]
            self._local.counters.hints_stored += 1
        record = versions.merge_bytes(mine, theirs) if mine else theirs
        self._local.records.write(HINT + key, join_hint(epoch, owners, record))
        self.rotten.discard(key)
        for each in owners:
            self._note(key, each)

    def _note(self, key: bytes, owner: bytes) -> None:
        owners = self.owners_of.setdefault(key, [])
        if owner not in owners:
            owners.append(owner)
            self.waiting.setdefault(owner, {})[key] = self._local.now
            self.notes += 1

    # -- delivering --------------------------------------------------------------------------------

    def deliver(self) -> None:
        """One pass: for each owner that is up, send as many copies as the batch still allows."""
        local = self._local
        for key in list(self.uncertain):
            self.recount(Recount(key))
        for owner in sorted(self.waiting):
            # This node may own by now what it kept for others; who was removed is never up.
            there = owner in local.liveness.up or owner == local.me
            if not there and owner in local.members:
                continue
            if self._not_before.get(owner, 0) <= local.now:
                self._fill(owner)

    def back(self, owner: bytes) -> None:
        """An owner that was down is up: bring it what was kept, at once."""
        self._not_before.pop(owner, None)
        if owner in self.waiting:
            sometimes("an owner is back for whom hints wait")
            self._fill(owner)

    def _fill(self, owner: bytes) -> None:
        """Bring the copies on their way to an owner up to the batch."""
        flying = self._flying.setdefault(owner, set())
        room = self._local.config.hint_batch - len(flying)
        chosen: list[bytes] = []
        for key in self.waiting.get(owner, ()):
            if len(chosen) >= room:
                break
            if key not in flying:
                chosen.append(key)
        flying.update(chosen)
        for key in chosen:
            self.send(Deliver(key, owner))

    def send(self, message: Deliver) -> None:
        """Send one copy home."""
        local, key, owner = self._local, message.key, message.owner
        payload = local.records.look(HINT + key)
        if payload is MISSING:
            if not local.records.park(HINT + key, local.me, message, local.now):
                sometimes("a hint stays since its copy cannot be read now")
                self._flying[owner].discard(key)
            return
        if isinstance(payload, Damaged):
            if payload.corrupt:  # nobody can read this copy any more: the owners' own ones must do
                sometimes("a damaged hint is given up")
                local.records.write(HINT + key, None)
                for each in list(self.owners_of.get(key, ())):
                    self._strike(key, each)
            self.ended(key, owner, delivered=False)
            return
        if payload is None:
            sometimes("a hint on its way is gone from the disk")
            self._strike(key, owner)
            self._flying[owner].discard(key)
            return
        if not local.routes.takes(owner, key):
            self._turn_to_owners(key, owner, payload)  # type: ignore[arg-type]
            return
        record = self.record_of(payload)  # type: ignore[arg-type]
        delivery = Delivery(local, self, key, owner, record)
        rid = local.open_request(delivery, local.now + local.config.hint_retry_ms)
        delivery.rid = rid
        local.background += 1
        # Durable even where acks do not wait for the disk: the put may have asked for that (dw),
        # and this copy may be the durable one. It may be less than a damaged one, so it replaces
        # none: see ``Delivery.stored``.
        store = Store(rid, key, record, local.config.hint_retry_ms, SYNC_YES)
        local.out.send(owner, store)

    def _turn_to_owners(self, key: bytes, owner: bytes, payload: bytes) -> None:
        """Keep a copy for those who own its key now: the one that it was for does not any more."""
        sometimes("a hint goes to the new owners of its key")
        placement = self._local.routes.placement
        epoch, owners, record = split_hint(payload)
        new = [node for node in placement.owners(placement.partition_of(key)) if node not in owners]
        owners = [*(each for each in owners if each != owner), *new]
        self._local.records.write(HINT + key, join_hint(epoch, owners, record))
        self._flying[owner].discard(key)
        self._strike(key, owner)
        for each in new:
            self._note(key, each)
        self.turned += max(0, len(new) - 1)

    def ended(self, key: bytes, owner: bytes, *, delivered: bool) -> None:
        """A copy on its way arrived, and others may go; or it did not: leave the owner
        alone for a while.
        """
        flying = self._flying[owner]
        flying.discard(key)
        if not delivered:
            self._not_before[owner] = self._local.now + self._local.config.hint_retry_ms
            keys = self.waiting.get(owner, {})
            if key in keys:  # behind the others: one that its owner cannot take must not block them
                keys[key] = keys.pop(key)
        elif len(flying) <= self._local.config.hint_batch // 2:
            self._fill(owner)

    def strike_out(self, message: Delivered) -> None:
        """The owner has the copy for good: forget it, unless a newer one came meanwhile."""
        local, key, owner = self._local, message.key, message.owner
        payload = local.records.look(HINT + key)
        if payload is MISSING:
            local.records.park(HINT + key, local.me, message, local.now)
            return
        if isinstance(payload, Damaged) or payload is None:
            sometimes("a hint is delivered and cannot be read any more")
            return
        epoch, owners, record = split_hint(payload)  # type: ignore[arg-type]
        if record != message.record or owner not in owners:
            sometimes("a hint is delivered, and a newer one came meanwhile")
            return
        owners.remove(owner)
        if owners:
            sometimes("a hint is delivered to one of its owners")
        local.records.write(HINT + key, join_hint(epoch, owners, record) if owners else None)
        local.counters.hints_delivered += 1
        self._strike(key, owner)

    def _strike(self, key: bytes, owner: bytes) -> None:
        keys = self.waiting.get(owner)
        if keys is not None and keys.pop(key, None) is not None:
            self.notes -= 1
            if not keys:
                del self.waiting[owner]
        owners = self.owners_of.get(key)
        if owners is not None and owner in owners:
            owners.remove(owner)
            if not owners:
                del self.owners_of[key]


class Delivery(Request):
    """One copy on its way to its owner."""

    __slots__ = ("hints", "key", "local", "owner", "record", "rid")

    def __init__(self, local: Local, hints: Hints, key: bytes, owner: bytes, record: bytes) -> None:
        self.local = local
        self.hints = hints
        self.key = key
        self.owner = owner
        self.record = record
        self.rid = 0

    def stored(self, source: Place, reply: StoreReply) -> None:
        if source != self.owner:
            return
        if reply.status == UNREADABLE:
            sometimes("a hint comes to an owner that cannot read its copy")
            # Only the join of all that others have may replace that copy: let a read make it. The
            # copy kept here belongs to it: the other owners may have lost theirs.
            timeout_ms = self.local.config.request_timeout_ms
            mending = Get(0, self.key, timeout_ms, forwarded=True)
            self.local.out.send(self.local.me, Mend(mending, self.record))
        if reply.status == STORED:
            self.hints.strike_out(Delivered(self.key, self.owner, self.record))
        self._end(delivered=reply.status == STORED)

    def lost(self, peer: bytes) -> None:
        if peer == self.owner:
            sometimes("an owner goes down while a hint is on its way")
            self._end(delivered=False)

    def wake(self) -> None:
        sometimes("a hint on its way is not acknowledged")
        self._end(delivered=False)

    def _end(self, *, delivered: bool) -> None:
        del self.local.requests[self.rid]
        self.local.background -= 1
        self.hints.ended(self.key, self.owner, delivered=delivered)
