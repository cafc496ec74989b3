"""Bugs in the copies that nodes keep for owners that were down, and in how these get home."""

from __future__ import annotations

from everwrite.core.cluster.holdings import SERVES
from everwrite.core.hints import delivery
from everwrite.core.hints.counting import Counting
from everwrite.core.hints.delivery import Asking, Deliver, Delivered, Deliveries, Way
from everwrite.core.hints.hints import Hints
from everwrite.core.hints.kept import Kept, Owners, join_hint, record_of, split_hint
from everwrite.core.messages.requests import STORED, SYNC_NO, Store, StoreReply
from everwrite.core.outbox import Place
from everwrite.core.records import HINT
from everwrite.core.request.read import Reads
from everwrite.core.request.replica import Replica
from everwrite.sim.bugs.registry import Patch, area

bug = area("hints")


@bug("hint-not-written", "a hint is acknowledged, and not written", rules=("quorum",))
def _hint_not_written() -> list[Patch]:
    return [(Hints, "write", lambda self, *arguments: None)]


@bug(
    "hint-overwrites",
    "a second hint for a key takes the place of the first",
    rules=("hint",),
)
def _hint_overwrites() -> list[Patch]:
    return [(Hints, "joined", lambda self, mine, theirs: theirs)]


@bug(
    "hint-deleted-early",
    "a hint is struck out when it is sent, not when it is kept",
    rules=("hint",),
)
def _hint_deleted_early() -> list[Patch]:
    right = Hints.send

    def send(self: Hints, message: Deliver) -> None:
        right(self, message)
        payload = self._local.records.look(HINT + message.key)
        if isinstance(payload, bytes):
            record = record_of(payload)
            self.strike_out(Delivered(message.key, message.owner, record))

    return [(Hints, "send", send)]


@bug(
    "hint-delivered-unsynced",
    "a hint is struck out when its owner has written it, before that is durable",
    rules=("hint",),
)
def _hint_delivered_unsynced() -> list[Patch]:
    return [(delivery, "SYNC_YES", SYNC_NO)]


@bug(
    "hint-struck-when-newer",
    "a hint is struck out though a newer one came while it was on its way",
    rules=("hint",),
)
def _hint_struck_when_newer() -> list[Patch]:
    right = Hints.strike_out

    def strike_out(self: Hints, message: Delivered) -> None:
        payload = self._local.records.look(HINT + message.key)
        if isinstance(payload, bytes):
            message = Delivered(message.key, message.owner, record_of(payload))
        right(self, message)

    return [(Hints, "strike_out", strike_out)]


@bug(
    "hint-struck-for-all",
    "a hint for two owners goes when the first of them has it",
    rules=("hint",),
)
def _hint_struck_for_all() -> list[Patch]:
    right = Hints.strike_out

    def strike_out(self: Hints, message: Delivered) -> None:
        records = self._local.records
        payload = records.look(HINT + message.key)
        if isinstance(payload, bytes):
            epoch, owners, record = split_hint(payload)
            if message.owner in owners and record == message.record:
                records.write(HINT + message.key, join_hint(epoch, {message.owner: 0}, record))
        right(self, message)

    return [(Hints, "strike_out", strike_out)]


@bug("hints-stay", "hints are never delivered", rules=("calm",))
def _hints_stay() -> list[Patch]:
    return [(Deliveries, "go", lambda self, owner: None)]


@bug(
    "hints-not-found-again",
    "the index of hints is not made anew after a restart",
    rules=("hint", "forgotten", "frontier"),
)
def _hints_not_found_again() -> list[Patch]:
    return [(Hints, "restore", lambda self, data_key, payload: None)]


@bug(
    "hint-dropped-at-cap",
    "a stand-in that may keep no more hints acknowledges them and keeps nothing",
    rules=("quorum",),
    needs=("hints_max",),
)
def _hint_dropped_at_cap() -> list[Patch]:
    right = Hints.keep

    def keep(self: Hints, source: Place, message: Store) -> None:
        known = self.owners_of.get(message.key)
        if self.full() and (known is None or message.hint_for not in known):
            self._local.out.send(source, StoreReply(message.rid, STORED, True))
        else:
            right(self, source, message)

    return [(Hints, "keep", keep)]


@bug(
    "hint-to-wrong-owner",
    "a copy kept for several owners is brought to the first of them each time",
    rules=("hint", "calm"),
)
def _hint_to_wrong_owner() -> list[Patch]:
    right = Hints.send

    def send(self: Hints, message: Deliver) -> None:
        owner = self.owners_of.get(message.key, [message.owner])[0]
        right(self, Deliver(message.key, owner))

    return [(Hints, "send", send)]


@bug(
    "hint-kept-as-own",
    "a stand-in keeps a copy like an owner's, so nobody brings it home",
    rules=("placement", "handoff"),
)
def _hint_kept_as_own() -> list[Patch]:
    right = Replica.store

    def store(self: Replica, source: Place, message: Store) -> None:
        mine = Store(
            message.rid,
            message.key,
            message.record,
            message.left_ms,
            message.sync,
            b"",
            message.repair,
            message.base,
            message.op,
        )
        roles = self._local.routes.roles
        partition = self._local.routes.partition_of(message.key)
        role, roles[partition] = roles[partition], roles[partition] or SERVES
        right(self, source, mine)
        roles[partition] = role

    return [(Replica, "store", store)]


@bug(
    "hint-refused-not-mended",
    "an owner whose damaged copy refuses a hint is not mended",
    rules=("calm",),
    needs=("bit_rot",),
)
def _hint_refused_not_mended() -> list[Patch]:
    return [(Reads, "mend", lambda self, *_: None)]


@bug(
    "hint-bytes-without-cap",
    "a stand-in takes hints whatever they weigh",
    rules=("bounds",),
    needs=("hints_bytes_max",),
)
def _hint_bytes_without_cap() -> list[Patch]:
    def room(self: Hints, key: bytes, owners: Owners, owner: bytes, record: bytes) -> bool:
        noted = owner in owners or owner in self.owners_of.get(key, ())
        return noted or self.notes < self._local.config.hints_max

    def full(self: Hints) -> bool:
        return self.notes >= self._local.config.hints_max

    return [(Hints, "room", room), (Hints, "full", full)]


@bug(
    "hint-grows-uncounted",
    "a hint that grows is counted at the size that it had first",
    rules=("hint",),
)
def _hint_grows_uncounted() -> list[Patch]:
    right = Kept.resize

    def resize(self: Kept, key: bytes, size: int) -> None:
        if key not in self.sizes:
            right(self, key, size)

    return [(Kept, "resize", resize)]


@bug(
    "uncounted-hint-is-absent",
    "a hint that was not counted yet after a start is taken for absent, and written over",
    rules=("hint", "forgotten", "quorum"),
)
def _uncounted_is_absent() -> list[Patch]:
    return [(Counting, "may_come", lambda self, key: False)]


@bug(
    "room-is-asked-once",
    "an owner that does not say how much room it has is never asked again",
    rules=("calm", "reachable", "survivors"),
)
def _room_is_asked_once() -> list[Patch]:
    def wake(self: Asking) -> None:
        del self._local.requests[self._rid]
        self._local.background -= 1

    return [(Asking, "wake", wake)]


@bug(
    "not-taken-is-forgotten",
    "a hint that its owner did not take is not queued again",
    rules=("calm", "survivors"),
)
def _not_taken_is_forgotten() -> list[Patch]:
    def landed(self: Deliveries, key: bytes, owner: bytes) -> Way:
        way = self._way(owner)
        way.bytes -= way.flying.pop(key, 0)
        return way

    return [(Deliveries, "_landed", landed)]
