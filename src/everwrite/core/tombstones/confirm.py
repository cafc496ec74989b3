"""What a member says of tombstones that are to be collected, and how it lets them go.

    Confirm -> read each own copy -> what speaks against it? -> fsync -> Confirmed
    Reap    -> note the floor, remove what is still the same -> fsync -> Reaped

Every member is asked, since every one may keep a hint, or hold a copy in a request. What it says
the first time it gives under a *mark*: from then on it watches these keys (``Records.watched``),
and the first write to one, as an own copy or as a hint, ends that. So "nothing has changed since"
is one look into a table, and holds for this life of the process only: marks begin with its salt.

Nothing is promised for later, so a member keeps no state for whoever asks beside its marks.

Costs: three microseconds for a key whose copy is cached, a read of the disk for any other; 150
bytes for a key that is watched. See collect.py for why three answers of all are a proof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from everwrite.core.cluster.holdings import SERVES
from everwrite.core.copies import TOMBSTONES
from everwrite.core.data import versions
from everwrite.core.errors import ProtocolError
from everwrite.core.hints.hints import Hints
from everwrite.core.local import Local, Request
from everwrite.core.messages.members import LEAVING
from everwrite.core.messages.message import Message
from everwrite.core.messages.tombstones import Confirm, Confirmed, Reap, Reaped
from everwrite.core.moving.moves import Moves
from everwrite.core.outbox import Place
from everwrite.core.records import CONFIRMED, FLOORS, MISSING, OWN, Damaged

(
    CLEAR,
    OTHER_VIEW,
    MOVING,
    HINT_KEPT,
    UNDER_WAY,
    UNREADABLE_HERE,
    ALIVE,
    ABSENT_HERE,
    CHANGED,
    NO_ROOM,
    DIFFERS,
    DOWN,
    SILENT,
) = range(13)
"""What speaks against a collection; the last three are the asker's own findings."""

REASONS = (
    "nothing",
    "{} knows other members",
    "its partition is on the move, as {} sees it",
    "{} keeps a copy of it for another node",
    "{} has a request for it under way",
    "{} cannot read its copy",
    "{} has a value of it",
    "{} has no copy of it",
    "it has changed on {} since it confirmed",
    "{} is asked about as many as it can watch",
    "{} has another copy of it",
    "{} is down",
    "{} does not answer",
)

HASH_BYTES = 8
COUNT_BITS = 32

WATCHED_LIVES = 6
"""For how many times ``store_life_ms`` a key is watched: it is asked about again after two."""

ASKED_MAX = 64
"""Questions that a node works on at a time: it has as many peers that ask, with two each."""

MARK_NO_ROOM = 1
"""The mark of an answer under which nothing is watched; salts and counts begin above it."""


class Weigh(Message, frozen=True, tag=113):
    """To oneself: the copy of one key of a question was read."""

    rid: int
    at: int


class Remove(Message, frozen=True, tag=114):
    """To oneself: a copy that is to go was read."""

    key: bytes
    fingerprint: bytes


class Confirming(Request):
    """One question about tombstones that this node answers."""

    __slots__ = (
        "_asked",
        "_fingerprints",
        "_local",
        "_mark",
        "_members",
        "_more",
        "_objections",
        "_open",
        "_source",
        "_until",
        "rid",
    )

    def __init__(self, members: Confirmations, source: Place, asked: Confirm) -> None:
        self._members = members
        self._local = members.local
        self._source = source
        many, keys = len(asked.keys), asked.keys[: members.local.config.collect_batch]
        self._asked = replace(asked, keys=keys)
        """As much of the question as this node itself would ask at once."""
        self._more = many - len(keys)
        """How many keys more there were: they may come up again."""
        self._until = members.local.now + members.local.config.collect_retry_ms
        """Who asks waits no longer."""
        self._mark = 0
        self._open = 0
        self._objections = [CLEAR] * len(keys)
        self._fingerprints = [b""] * len(keys)
        self.rid = 0

    def begin(self) -> None:
        """Take a place in the table, and begin when the pace allows it."""
        local = self._local
        wait_ms = local.pace.wait_ms("collect", local.now)
        self.rid = local.open_request(self, local.now + (wait_ms or local.config.collect_retry_ms))
        local.background += 1
        if not wait_ms:
            self._go()

    def wake(self) -> None:
        local = self._local
        if self._mark or local.now >= self._until:  # too late: who asked will come again
            self._close()
            return
        wait_ms = local.pace.wait_ms("collect", local.now)
        if wait_ms:
            local.wake_at(self.rid, local.now + wait_ms)
            return
        local.wake_at(self.rid, local.now + local.config.collect_retry_ms)
        self._go()

    def _go(self) -> None:
        """See what speaks against each key without its copy, then look at the copies."""
        members, asked = self._members, self._asked
        self._mark = asked.mark or members.next_mark()
        general = members.objection(asked)
        if general:
            self._objections = [general] * len(asked.keys)
            self._answer()
            return
        self._open = 1
        for at, key in enumerate(asked.keys):
            self._objections[at] = members.objection_to(key)
            if self._objections[at] == CLEAR and members.owns(key):
                self._open += 1
                self.weigh(at)
        self._weighed()

    def weigh(self, at: int) -> None:
        """Take note of what the own copy of a key is; wait for it if it must be read."""
        local, key = self._local, self._asked.keys[at]
        payload = local.records.look(OWN + key)
        if payload is MISSING:
            message = Weigh(self.rid, at)
            if local.records.park(OWN + key, local.me, message, local.now):
                return
            self._objections[at] = NO_ROOM
        elif isinstance(payload, Damaged):
            self._objections[at] = UNREADABLE_HERE
        elif payload is None:
            self._objections[at] = ABSENT_HERE
            self._unlist(key)
        elif not versions.is_tombstone(versions.decode(payload[8:])):  # type: ignore[index]
            self._objections[at] = ALIVE
            self._unlist(key)
        else:
            self._fingerprints[at] = local.fingerprint(payload[8:])  # type: ignore[index]
        self._weighed()

    def _unlist(self, key: bytes) -> None:
        """Whoever asks goes by the own list: take out of it what is no tombstone."""
        if self._source == self._local.me:
            self._local.records.enter(TOMBSTONES + key, None)

    def _weighed(self) -> None:
        self._open -= 1
        if self._open:
            return
        # What a request has in its hands may come to a copy after this; so that is looked at last.
        members, local, asked = self._members, self._local, self._asked
        members.forget_old()
        busy = members.under_way()
        watched, room = local.records.watched, local.config.collect_watched_max
        for at, key in enumerate(asked.keys):
            if self._objections[at] != CLEAR:
                continue
            if key in busy:
                self._objections[at] = UNDER_WAY
            elif members.objection_to(key):  # since the copies were read
                self._objections[at] = members.objection_to(key)
            elif asked.mark:
                # Up to the floors anything may still come, so it is watched until they are here;
                # and where there is a copy, until that is gone.
                if watched.get(key[:HASH_BYTES]) != asked.mark:
                    self._objections[at] = CHANGED
                elif asked.generation and not members.owns(key):
                    del watched[key[:HASH_BYTES]]
            elif len(watched) >= room and key[:HASH_BYTES] not in watched:
                self._objections[at] = NO_ROOM
            else:
                watched.pop(key[:HASH_BYTES], None)  # the table is in the order of the marks
                watched[key[:HASH_BYTES]] = self._mark
        self._answer()

    def _answer(self) -> None:
        self._close()
        asked, local = self._asked, self._local
        floor = 0
        if asked.generation:
            self._members.attend(asked.generation)
        elif asked.mark and CLEAR in self._objections:
            floor = self._members.next_floor()
        objections = self._objections + [NO_ROOM] * self._more
        marked = (self._mark, objections, self._fingerprints + [b""] * self._more)
        reply = Confirmed(asked.rid, *marked, floor, local.generation)
        local.out.on_sync.append((self._source, reply))

    def _close(self) -> None:
        local = self._local
        if local.requests.pop(self.rid, None) is not None:
            local.background -= 1
            self._members.answering -= 1


class Confirmations:
    """The member's side of one node."""

    def __init__(self, local: Local, hints: Hints, moves: Moves) -> None:
        self.local = local
        self._hints = hints
        self._moves = moves
        self._marks = (local.epochs.salt + 1) << COUNT_BITS
        self._given: dict[int, int] = {}
        """When each mark was given, as long as a key may be watched under it."""
        self.answering = 0
        self.given = 0
        """The last floor that this node gave, in any life."""
        self.attended = 0
        """The newest collection that this node was asked about to the last: see ``Floors``."""
        self.own_handlers: dict[type, Callable[[Place, Any], None]] = {
            Weigh: lambda _, message: self._weigh(message),
            Remove: lambda _, message: self.remove(message),
        }

    def restore(self, floors: bytes, confirmed: bytes) -> None:
        """At the start: what stood under ``FLOORS`` and under ``CONFIRMED``."""
        known = decode_floors(floors)
        self.local.generation, self.local.floors = known.generation, known.floors
        self.attended = known.attended
        self.given = int.from_bytes(confirmed, "big")

    def next_floor(self) -> int:
        """Return up to where this node's copies on their way may be too old, in its own count. It
        is on the disk with the answer: who has an older disk has gone back in time.
        """
        local = self.local
        self.given = max(self.given, local.stamp - local.config.store_life_ms)
        local.records.enter(CONFIRMED, self.given.to_bytes(8, "big"))
        return self.given

    def attend(self, generation: int) -> None:
        """This node is asked about a collection to the last: it is not one that goes without it."""
        self.attended = max(self.attended, generation)
        self._enter_floors()

    def _enter_floors(self) -> None:
        # Each time: the batch of the last one may not have been written.
        local = self.local
        known = Floors(local.generation, local.floors, self.attended)
        local.records.enter(FLOORS, encode_floors(known))

    def next_mark(self) -> int:
        """Return a mark that no answer of this node was given under, in any life."""
        self._marks += 1
        self._given[self._marks] = self.local.now
        return self._marks

    def forget_old(self) -> None:
        """Watch no more what nobody has come back for: that question was given up."""
        local, watched = self.local, self.local.records.watched
        before = local.now - WATCHED_LIVES * local.config.store_life_ms
        while watched:
            key = next(iter(watched))
            if self._given.get(watched[key], before) > before:
                break
            del watched[key]
        while self._given:
            mark = next(iter(self._given))
            if self._given[mark] > before:
                break
            del self._given[mark]

    def asked(self, source: Place, message: Confirm) -> None:
        """A node asks about tombstones."""
        if self.answering >= ASKED_MAX:
            many = len(message.keys)
            reply = Confirmed(message.rid, MARK_NO_ROOM, [NO_ROOM] * many, [b""] * many)
            self.local.out.send(source, reply)
            return
        self.answering += 1
        Confirming(self, source, message).begin()

    def _weigh(self, message: Weigh) -> None:
        """A copy that a question waits for was read."""
        confirming = self.local.requests.get(message.rid)
        if isinstance(confirming, Confirming):
            confirming.weigh(message.at)

    def view(self) -> bytes:
        """Return of whom the cluster consists as this node sees it, and who owns what."""
        return self.local.fingerprint(
            self.local.routes.placement.digest + b"".join(everyone(self.local))
        )

    def objection(self, asked: Confirm) -> int:
        """Return what speaks against any collection now."""
        return CLEAR if asked.view == self.view() else OTHER_VIEW

    def objection_to(self, key: bytes) -> int:
        """Return what speaks against one key, beside its own copy."""
        if self._hints.may_be_kept(key):
            return HINT_KEPT
        return CLEAR if self._moves.stands(self.local.routes.partition_of(key)) else MOVING

    def owns(self, key: bytes) -> bool:
        return self.local.routes.role(key) == SERVES

    def under_way(self) -> set[bytes]:
        """Return the keys of which a request, or a message to oneself, has a copy in its hands."""
        local = self.local
        keys = {request.about() for request in local.requests.values()}
        for message in local.out.sends.get(local.me, ()):
            inner = getattr(message, "put", None) or getattr(message, "request", None)
            inner = inner or getattr(message, "get", None) or message
            keys.add(getattr(inner, "key", b""))
        return keys

    # -- letting go --------------------------------------------------------------------------------

    def reap(self, source: Place, message: Reap) -> None:
        """Take nothing older from now on; remove what all have confirmed to the last."""
        local = self.local
        floors = local.floors
        for node, floor in message.floors:
            floors[node] = max(floor, floors.get(node, 0))
        local.generation = max(local.generation, message.generation)
        self._enter_floors()
        for key, fingerprint in message.items:
            self.remove(Remove(key, fingerprint))
        local.out.on_sync.append((source, Reaped(message.rid)))

    def remove(self, message: Remove) -> None:
        """Remove an own copy if it is still the one that all have confirmed."""
        local, key = self.local, message.key
        payload = local.records.look(OWN + key)
        if payload is MISSING:  # at the cap it stays, and is asked about again
            local.records.park(OWN + key, local.me, message, local.now)
            return
        if payload is None:
            return
        if isinstance(payload, Damaged):
            # Nothing was written since this node confirmed: what cannot be read is the tombstone.
            if not (payload.corrupt and key[:HASH_BYTES] in local.records.watched):
                return
            local.copies.write(key, b"", None, None)
            local.records.enter(TOMBSTONES + key, None)
            local.counters.tombstones_reaped += 1
            return
        record = payload[8:]  # type: ignore[index]
        if local.fingerprint(record) != message.fingerprint:
            return  # it was written again meanwhile
        local.copies.write(key, b"", None, payload, was=versions.decode(record))  # type: ignore[arg-type]
        local.counters.tombstones_reaped += 1


class Floors(msgspec.Struct, frozen=True, array_like=True):
    """What a node knows of collections, as it stands under ``FLOORS``."""

    generation: int
    """The number of the newest one that it has heard of."""
    floors: dict[bytes, int]
    attended: int = 0
    """That of the newest one which all members of its view had heard of while it was one of them.
    Each that goes without it has a higher number, since these say so when they are asked. One that
    came no further than this node may be repeated without it: it is not counted here."""


def encode_floors(known: Floors) -> bytes:
    return msgspec.msgpack.encode(known)


def decode_floors(data: bytes) -> Floors:
    """Return what stands under ``FLOORS``; empty: nothing yet."""
    return msgspec.msgpack.decode(data, type=Floors) if data else Floors(0, {})


def everyone(local: Local) -> list[bytes]:
    """Return the ids of all who may have anything, this node among them: who says that it is there,
    and who was ruled in. Who was removed has no say: server/fences.py keeps its copies out.
    """
    members = local.members
    ruled = {node_id for node_id, ruling in members.rulings.items() if ruling.standing <= LEAVING}
    heard = {member.node_id for member in members}
    return sorted(each for each in ruled | heard if not members.removed(each))


def checked(reply: Confirmed, count: int) -> Confirmed:
    """Return an answer of a peer; ProtocolError if it does not fit the question."""
    if len(reply.objections) != count or len(reply.fingerprints) != count:
        raise ProtocolError("An answer about tombstones does not fit its question.")
    return replace(reply, objections=[min(max(each, 0), SILENT) for each in reply.objections])
