"""Hints: copies that this node keeps for owners that were down (Dynamo 4.6).

One copy per key, merged, with the list of owners it is for; the index of them is in memory
(kept.py) and is made anew at the start, while the node serves (counting.py). How they get home is
delivery.py's affair. A note is struck out only after the owner's durable ack, and only if the copy
is still the one that was sent.

At its caps, by notes and by bytes, a node takes no new hint, and no larger one in place of the one
that it has. The coordinator hears of it: nothing is dropped.
"""

from __future__ import annotations

from itertools import islice

from everwrite.core.data import versions
from everwrite.core.errors import ProtocolError
from everwrite.core.hints.counting import Counting
from everwrite.core.hints.delivery import Deliver, Delivered, Deliveries, Delivery
from everwrite.core.hints.kept import Kept, Owners, Waiting, Went, join_hint, size_of, split_hint
from everwrite.core.local import Local
from everwrite.core.messages.hints import AskRoom, Room
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import REFUSED, UNREADABLE, Store, StoreReply
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, MISSING, Damaged
from everwrite.core.trees.mend import mend

NO_EPOCH = bytes(8)

RECOUNTED_AT_ONCE = 256
"""Hints that the index is not sure of, and one pass looks at: each waits for the disk in a table
that requests of clients wait in too."""
ROTTEN_AT_ONCE = 8
"""Damaged hints that are looked at in one pass."""


class Recount(Message, frozen=True, tag=106):
    """To oneself: see which hints for this key are on the disk."""

    key: bytes


class Hints:
    """The hints of one node."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self.kept = Kept()
        self.deliveries = Deliveries(local, self)
        self.counting: Counting | None = None
        """The walk through the disk at the start, for as long as it lasts."""
        self.early = 0
        """Notes that were taken before those on the disk were counted: they may go over the cap."""
        self.turned = 0
        """Notes beyond the cap that a change of owners may have made, in all."""
        self.uncertain: dict[bytes, None] = {}
        """Data keys of which the index may be wrong, since a batch was not written or the disk
        would not give the copy.
        """
        self.rotten: dict[bytes, None] = {}
        """Data keys whose copy is damaged for good: not read in each pass, and never absent."""

    @property
    def owners_of(self) -> dict[bytes, tuple[bytes, ...]]:
        return self.kept.owners_of

    @property
    def waiting(self) -> dict[bytes, Waiting]:
        return self.kept.waiting

    @property
    def notes(self) -> int:
        return self.kept.notes

    @property
    def unfinished(self) -> bool:
        """Whether a pass has something to do."""
        return bool(self.waiting or self.uncertain or self.rotten)

    @property
    def whole(self) -> bool:
        """Whether the index knows every hint on the disk."""
        return self.counting is None

    # -- what is on the disk -----------------------------------------------------------------------

    def count(self) -> None:
        """At the start: see what is on the disk, a part at a time."""
        self.counting = Counting(self._local, self)
        self.counting.begin()

    def restore(self, data_key: bytes, payload: bytes) -> None:
        """Take note of a hint found on disk at the start."""
        _, owners, record = split_hint(payload)
        self.kept.resize(data_key, size_of(data_key, len(owners), record))
        for owner, since in owners.items():
            self.kept.note(data_key, owner, since, "restored")

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
            self.rotten[key] = None
        known = not isinstance(payload, Damaged) and payload is not None
        _, kept, record = split_hint(payload) if known else (b"", {}, b"")  # type: ignore[arg-type]
        noted = self.owners_of.get(key, ())
        if any(owner not in noted for owner in kept):
            sometimes("a hint on the disk was not noted")
        if kept:
            self.kept.resize(key, size_of(key, len(kept), record))
        for owner, since in kept.items():
            self.kept.note(key, owner, since, "recounted")
        for owner in noted:
            if owner not in kept:
                sometimes("a hint that was noted is not on the disk")
                self._strike(key, owner, "missed")
        self.touch(key)

    def may_be_kept(self, key: bytes) -> bool:
        """Say whether a copy of this key may be on the disk; the index knows every other one."""
        if key in self.owners_of or key in self.uncertain or key in self.rotten:
            return True
        # It could be there when somebody began to read it, and who waits for that comes first.
        records = self._local.records
        if records.parked_count and records.is_awaited(HINT + key):
            return True
        return self.counting is not None and self.counting.may_come(key)

    # -- keeping -----------------------------------------------------------------------------------

    def full(self) -> bool:
        """Say whether there is no room for one more note, however small."""
        config = self._local.config
        return self.notes >= config.hints_max or self.kept.bytes >= config.hints_bytes_max

    def room(self, key: bytes, owners: Owners, owner: bytes, record: bytes) -> bool:
        """Say whether this record may be kept for these owners, as the disk has it, and one."""
        config, kept = self._local.config, self.kept
        noted = self.owners_of.get(key, ())
        before = {*owners, *noted}
        if owner not in before and kept.notes + len(before) - len(noted) >= config.hints_max:
            return False
        grows = size_of(key, len(before | {owner}), record) - kept.sizes.get(key, 0)
        return grows <= 0 or kept.bytes + grows <= config.hints_bytes_max

    def keep(self, source: Place, message: Store) -> None:
        """Store a copy for an owner that is down; refuse it at the cap."""
        local = self._local
        key, owner = message.key, message.hint_for
        if local.closing or local.members.removed(local.me):
            local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        if not self.may_be_kept(key) and not self.room(key, {}, owner, message.record):
            self._refuse(source, message)  # without a look at the disk
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
        epoch, owners, mine = split_hint(payload) if payload else (NO_EPOCH, {}, b"")  # type: ignore[arg-type]
        try:
            versions.validate(versions.decode(message.record))
        except ProtocolError:
            local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        record = self.joined(mine, message.record)
        if not self.room(key, owners, owner, record):
            self._refuse(source, message)
            return
        self.write(key, epoch, owners, owner, record)
        local.acknowledge(source, message)

    def joined(self, mine: bytes, theirs: bytes) -> bytes:
        """Return the join of the copy here, if there is one, and the one that came."""
        return versions.merge_bytes(mine, theirs) if mine else theirs

    def _refuse(self, source: Place, message: Store) -> None:
        local = self._local
        local.counters.hints_refused += 1
        sometimes("a hint is refused at the cap")
        local.out.send(source, StoreReply(message.rid, REFUSED, False))

    def write(self, key: bytes, epoch: bytes, owners: Owners, owner: bytes, record: bytes) -> None:
        """Write a copy for these owners and one more."""
        now_s = self._local.time_ms // 1000
        kept = dict(owners)
        for each in self.owners_of.get(key, ()):
            # Where the copy before was damaged only the index knows for whom it was.
            kept.setdefault(each, self.waiting[each].since[key])
        is_new = owner not in kept
        if is_new:
            if kept:
                sometimes("one copy is kept for one more owner")
            kept[owner] = now_s
            self._local.counters.hints_stored += 1
            self.early += self.counting is not None
        self._write(key, epoch, kept, record)
        self.rotten.pop(key, None)
        for each, since in kept.items():
            self.kept.note(key, each, since, "stored" if is_new and each == owner else "recounted")

    def _write(self, key: bytes, epoch: bytes, owners: Owners, record: bytes) -> None:
        """Write a hint, or remove it where nobody is left; the index learns its size."""
        if owners:
            self._local.records.write(HINT + key, join_hint(epoch, owners, record))
            self.kept.resize(key, size_of(key, len(owners), record))
        else:
            self._local.records.write(HINT + key, None)
        self.touch(key)

    def touch(self, key: bytes) -> None:
        """Something happens to the hint of this key."""
        if self.counting is not None:
            self.counting.touched.add(key)

    # -- letting go --------------------------------------------------------------------------------

    def deliver(self) -> None:
        """One pass: see what the index is not sure of, and bring home what can be brought."""
        for key in list(islice(self.uncertain, RECOUNTED_AT_ONCE)):
            self.uncertain[key] = self.uncertain.pop(key)  # the others come first in the next pass
            self.recount(Recount(key))
        for key in list(islice(self.rotten, ROTTEN_AT_ONCE)):
            self._give_up(key)
        self.deliveries.go_on()

    def _give_up(self, key: bytes) -> None:
        """A copy that nobody can read, nor say for whom it was, goes when all owners of its key are
        there to bring together what they have; until then this node never says that there was
        nothing.
        """
        local = self._local
        self.rotten.pop(key, None)
        owners = local.routes.placement.owners(local.routes.partition_of(key))
        if key in self.owners_of:
            return
        if not all(owner in local.liveness.up or owner == local.me for owner in owners):
            self.rotten[key] = None
            return
        mend(local, key)
        self._write(key, b"", {}, b"")

    def back(self, owner: bytes) -> None:
        """An owner that was down is up: bring it what was kept, at once."""
        self.deliveries.back(owner)

    def send(self, message: Deliver) -> None:
        """Send one copy home; or keep it for others, if its owner is that no more."""
        local, key, owner = self._local, message.key, message.owner
        payload = local.records.look(HINT + key)
        if payload is MISSING:
            if not local.records.park(HINT + key, local.me, message, local.now):
                sometimes("a hint stays since its copy cannot be read now")
                self.deliveries.stays(key, owner)
            return
        if isinstance(payload, Damaged):
            if payload.corrupt:  # nobody can read this copy any more: the owners' own ones must do
                sometimes("a damaged hint is given up")
                self._write(key, b"", {}, b"")
                for each in self.owners_of.get(key, ()):
                    self._strike(key, each, "given_up")
            self.deliveries.ended(key, owner, delivered=False)
            return
        if payload is None:
            sometimes("a hint on its way is gone from the disk")
            self._strike(key, owner, "missed")
            self.deliveries.gone(key, owner)
            return
        if not local.routes.takes(owner, key):
            self._turn_to_owners(key, owner, payload)  # type: ignore[arg-type]
            return
        _, owners, record = split_hint(payload)  # type: ignore[arg-type]
        if owner not in owners:
            self._strike(key, owner, "missed")
            self.deliveries.gone(key, owner)
            return
        Delivery.start(local, self, key, owner, record)

    def _turn_to_owners(self, key: bytes, owner: bytes, payload: bytes) -> None:
        """Keep a copy for those who own its key now: the one that it was for does not any more."""
        sometimes("a hint goes to the new owners of its key")
        placement = self._local.routes.placement
        epoch, owners, record = split_hint(payload)
        since = owners.pop(owner, self._local.time_ms // 1000)
        new = [node for node in placement.owners(placement.partition_of(key)) if node not in owners]
        owners |= dict.fromkeys(new, since)
        self._write(key, epoch, owners, record)
        for each in new:
            self.kept.note(key, each, since, "turned_to")
        self._strike(key, owner, "turned")
        self.turned += max(0, len(new) - 1)
        self.deliveries.gone(key, owner)

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
        del owners[owner]
        if owners:
            sometimes("a hint is delivered to one of its owners")
        self._write(key, epoch, owners, record)
        local.counters.hints_delivered += 1
        self._strike(key, owner, "delivered")

    def _strike(self, key: bytes, owner: bytes, went: Went) -> None:
        self.kept.strike(key, owner, went)

    # -- what others ask ---------------------------------------------------------------------------

    def asked_for_room(self, source: Place, message: AskRoom) -> None:
        self.deliveries.asked_for_room(source, message)

    def room_given(self, source: Place, message: Room) -> None:
        self.deliveries.room_given(source, message)
