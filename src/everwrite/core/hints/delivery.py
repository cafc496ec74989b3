"""How hints get home: so many at a time as their owner says that it has room for (Dynamo 4.6).

    keeper:  AskRoom -> Room(notes) -> so many Stores -> their acks -> AskRoom ...
             Room(0, wait) -> ask again then

An owner that is back is the one node that must not be flooded: it has missed most, its cache is
cold, and all others have something for it. So it says itself how much it takes. Its answer depends
on its pace (core/pace, which knows how its clients fare), its disk, what waits for that, and how
many keepers ask. Room is for copies, spent one by one, and void after a while. Each side gives
this no more of its loop than its pace grants.

At most ``hint_batch`` copies, and ``hint_batch_bytes``, are on their way to one owner; one is
always allowed, however large. What was not taken goes behind the others, and the owner is left
alone for ``hint_retry_ms``. What was kept for a node that is none of the cluster's any more needs
nobody's room: it goes to the new owners of its keys, here on the disk, at the same pace.

Costs: one question and one answer for each batch; per copy a Store, a StoreReply and two writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from everwrite.core.hints.kept import Waiting
from everwrite.core.local import Local, Request
from everwrite.core.messages.hints import AskRoom, Room
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import STORED, SYNC_YES, UNREADABLE, Store, StoreReply
from everwrite.core.outbox import Place, node_at
from everwrite.core.probes import sometimes
from everwrite.core.trees.mend import mend

if TYPE_CHECKING:
    from everwrite.core.hints.hints import Hints

SLICE = 32
"""Copies that one grant of the pace is good for: about a millisecond of the loop."""

SLOW_DISK_MS = 25
"""A disk that syncs slower than this gets fewer copies at a time, in proportion: the batch is to be
on the disk before its keeper asks anew. A good one needs 1 to 5 ms."""

CROWDED_MS = 100
"""When to ask again where too much waits for the disk."""

LEAVES_MS = 1_000
"""When to ask again a node that takes no copies since it is about to go."""


class Deliver(Message, frozen=True, tag=100):
    """To oneself: send the copy of this key to this owner."""

    key: bytes
    owner: bytes


class Delivered(Message, frozen=True, tag=101):
    """To oneself: the owner has this copy for good; strike it out if it is still this one."""

    key: bytes
    owner: bytes
    record: bytes


class Target(NamedTuple):
    """What waits for one owner, for people."""

    owner: bytes
    notes: int
    bytes: int
    oldest_ms: int
    in_flight: int
    waits_for: str


class Way:
    """The way to one owner."""

    __slots__ = (
        "asking",
        "busy",
        "bytes",
        "flying",
        "granted",
        "not_before",
        "pause",
        "room",
        "room_until",
        "why",
    )

    def __init__(self) -> None:
        self.flying: dict[bytes, int] = {}
        """The copies that are on their way, and their sizes."""
        self.bytes = 0
        self.room = self.room_until = 0
        """How many more the owner will take, and until when that is true."""
        self.granted = 0
        """How many more this node's own pace has granted."""
        self.asking = self.busy = False
        self.pause: Pause | None = None
        """Nothing goes before this has ended."""
        self.not_before = 0
        self.why = ""
        """Why it was left alone last."""


class Deliveries:
    """All ways of one node, and the door to it."""

    def __init__(self, local: Local, hints: Hints) -> None:
        self._local = local
        self._hints = hints
        self._ways: dict[bytes, Way] = {}
        self._asked: dict[bytes, int] = {}
        """When each keeper asked for room last."""

    # -- a keeper ----------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Bring each owner that can be reached what waits for it."""
        waiting = self._hints.waiting
        for owner in [each for each in self._ways if each not in waiting]:
            way = self._ways[owner]
            if not (way.flying or way.asking or way.pause):
                del self._ways[owner]
        for owner in sorted(waiting):
            if self._reached(owner):
                self.go(owner)

    def back(self, owner: bytes) -> None:
        """An owner is up again."""
        if owner in self._hints.waiting:
            sometimes("an owner is back for whom hints wait")
            way = self._way(owner)
            way.not_before = way.room = 0
            if way.pause is not None:
                way.pause.close()
            self.go(owner)

    def _reached(self, owner: bytes) -> bool:
        local = self._local
        # This node may own by now what it kept for others; who was removed is never up.
        return owner in local.liveness.up or self._free(owner)

    def _free(self, owner: bytes) -> bool:
        """Say whether nobody must be asked for room."""
        local = self._local
        return owner == local.me or owner not in local.members

    def _way(self, owner: bytes) -> Way:
        way = self._ways.get(owner)
        if way is None:
            way = self._ways[owner] = Way()
        return way

    def go(self, owner: bytes) -> None:
        """Send an owner what it has room for."""
        way, waiting = self._way(owner), self._hints.waiting.get(owner)
        now = self._local.now
        if waiting is None or way.busy or way.pause or way.not_before > now:
            return
        if not self._free(owner) and not (way.room and now < way.room_until):
            self._ask(owner, way, waiting)
            return
        way.busy = True  # what is sent may end at once, and would begin this anew
        self._send(owner, way, waiting)
        way.busy = False

    def _ask(self, owner: bytes, way: Way, waiting: Waiting) -> None:
        if not way.asking and owner in self._local.liveness.up:
            Asking.start(self._local, self, owner, way, waiting)

    def _send(self, owner: bytes, way: Way, waiting: Waiting) -> None:
        local, hints, free = self._local, self._hints, self._free(owner)
        config, now, queue = local.config, local.now, waiting.queue
        for _ in range(config.hint_batch):
            full = len(way.flying) >= config.hint_batch or not (free or way.room)
            if full or not queue or way.not_before > now:
                return
            if not way.granted:
                wait_ms = local.pace.wait_ms("hints", now)
                if wait_ms:
                    self._pause(owner, way, wait_ms, "the clients of this node, which come first")
                    return
                way.granted = SLICE
            key = queue.popleft()
            if key not in waiting or key in way.flying:
                continue
            size = hints.kept.sizes.get(key, 0)
            if way.flying and way.bytes + size > config.hint_batch_bytes:
                sometimes("a hint waits since those on their way are large")
                queue.appendleft(key)
                return
            way.granted -= 1
            way.room = max(0, way.room - 1)
            way.flying[key] = size
            way.bytes += size
            hints.send(Deliver(key, owner))
        if free and queue and not way.flying:
            # All of it ended at once: the rest in other ticks, or it would all be one batch.
            self._pause(owner, way, 1, "its turn")

    def _pause(self, owner: bytes, way: Way, wait_ms: int, why: str) -> None:
        way.why = why
        way.pause = Pause(self._local, self, owner, way, wait_ms)

    def _landed(self, key: bytes, owner: bytes) -> Way:
        """A copy is on its way no more; where it is still kept, it goes again, after the others."""
        way = self._way(owner)
        way.bytes -= way.flying.pop(key, 0)
        waiting = self._hints.waiting.get(owner)
        if waiting is not None and key in waiting:
            waiting.queue.append(key)
        return way

    def stays(self, key: bytes, owner: bytes) -> None:
        """This node cannot read a copy now."""
        way = self._landed(key, owner)
        way.not_before = self._local.now + self._local.config.hint_pass_every_ms
        way.why = "this node's own disk"

    def gone(self, key: bytes, owner: bytes) -> None:
        """There is nothing to be brought any more."""
        way = self._landed(key, owner)
        if len(way.flying) <= self._local.config.hint_batch // 2:
            self.go(owner)

    def ended(self, key: bytes, owner: bytes, *, delivered: bool) -> None:
        """A copy on its way arrived, and others may go; or it did not: leave the owner
        alone for a while.
        """
        way = self._landed(key, owner)
        if not delivered:
            self.leave_alone(owner, way, "it did not take one")
        elif len(way.flying) <= self._local.config.hint_batch // 2:
            self.go(owner)

    def leave_alone(self, owner: bytes, way: Way, why: str) -> None:
        way.room = 0
        if way.pause is None:
            self._pause(owner, way, self._local.config.hint_retry_ms, f"another try ({why})")

    # -- an owner ----------------------------------------------------------------------------------

    def asked_for_room(self, source: Place, message: AskRoom) -> None:
        """Say how many copies this node will take now from one of those who keep some for it."""
        local = self._local
        source = node_at(source)
        now, config = local.now, local.config
        self._asked[source] = now
        gone = [node for node, at in self._asked.items() if now - at > 2 * config.hint_retry_ms]
        for node in gone:
            del self._asked[node]
        wait_ms = self._closed_ms()
        notes = 0
        if not wait_ms:
            slow = max(1, local.disk_ms // SLOW_DISK_MS)
            most = max(1, min(message.notes, 2 * config.hint_batch // (len(self._asked) * slow)))
            while notes < most and not wait_ms:
                wait_ms = local.pace.wait_ms("hints", now)
                if not wait_ms:
                    notes = min(most, notes + SLICE)
        if notes < message.notes:
            sometimes("an owner has room for a part of the hints that wait for it")
        local.out.send(source, Room(message.rid, notes, 0 if notes else wait_ms))

    def _closed_ms(self) -> int:
        """Return for how long this node takes nothing; 0: it does."""
        local, config = self._local, self._local.config
        if local.closing:
            return LEAVES_MS
        parked = local.records.parked_count > config.parked_max // 2
        held = max(local.records.parked_bytes, local.held_bytes) > config.held_bytes_max // 2
        return CROWDED_MS if parked or held else 0

    def room_given(self, source: Place, message: Room) -> None:
        """An owner says what it will take."""
        request = self._local.requests.get(message.rid)
        if not isinstance(request, Asking) or request.owner != source:
            return
        request.close()
        owner, way, config = request.owner, request.way, self._local.config
        if message.notes <= 0:
            wait_ms = min(max(message.wait_ms, 1), config.hint_retry_ms)
            self._pause(owner, way, wait_ms, "room: it is busy")
            return
        way.room = min(message.notes, config.hint_batch)
        way.room_until = self._local.now + config.hint_retry_ms
        self.go(owner)

    # -- for people --------------------------------------------------------------------------------

    def targets(self) -> list[Target]:
        """Return what waits for each owner, and for what it waits."""
        now_s = self._local.time_ms // 1000
        found = []
        for owner, waiting in sorted(self._hints.waiting.items()):
            way = self._ways.get(owner)
            flying = len(way.flying) if way is not None else 0
            oldest_ms = max(0, now_s - waiting.oldest) * 1000
            why = self._why(owner, way)
            found.append(Target(owner, len(waiting), waiting.bytes, oldest_ms, flying, why))
        return found

    def flying(self) -> dict[bytes, set[bytes]]:
        """Return the keys that are on their way to each owner."""
        return {owner: set(way.flying) for owner, way in self._ways.items()}

    def _why(self, owner: bytes, way: Way | None) -> str:
        local = self._local
        if owner not in local.members:
            return "the disk: its keys have new owners, who get them"
        if not self._reached(owner):
            return "the node, which is not up"
        if way is None:
            return "its turn"
        if way.flying:
            return "acks"
        if way.pause is not None:
            return way.why
        if way.not_before > local.now:
            return f"another try ({way.why})"
        return "room: it is asked" if way.asking else "its turn"


class Asking(Request):
    """An owner is asked for room."""

    __slots__ = ("_deliveries", "_local", "_rid", "owner", "way")

    def __init__(self, local: Local, deliveries: Deliveries, owner: bytes, way: Way) -> None:
        self._local = local
        self._deliveries = deliveries
        self.owner = owner
        self.way = way
        self._rid = 0

    @classmethod
    def start(
        cls, local: Local, deliveries: Deliveries, owner: bytes, way: Way, waiting: Waiting
    ) -> None:
        asking = cls(local, deliveries, owner, way)
        asking._rid = local.open_request(asking, local.now + local.config.hint_retry_ms)
        local.background += 1
        way.asking = True
        local.out.send(owner, AskRoom(asking._rid, len(waiting), waiting.bytes))

    def lost(self, peer: bytes) -> None:
        if peer == self.owner:
            self.close()

    def wake(self) -> None:
        sometimes("an owner does not say how many hints it has room for")
        self.close()
        self._deliveries.leave_alone(self.owner, self.way, "it did not answer")

    def close(self) -> None:
        del self._local.requests[self._rid]
        self._local.background -= 1
        self.way.asking = False


class Pause(Request):
    """An owner's hints go on after a while."""

    __slots__ = ("_deliveries", "_local", "_owner", "_rid", "_way")

    def __init__(
        self, local: Local, deliveries: Deliveries, owner: bytes, way: Way, wait_ms: int
    ) -> None:
        self._local = local
        self._deliveries = deliveries
        self._owner = owner
        self._way = way
        self._rid = local.open_request(self, local.now + wait_ms)
        local.background += 1

    def lost(self, peer: bytes) -> None:
        if peer == self._owner:
            self.close()

    def wake(self) -> None:
        self.close()
        if self._deliveries._reached(self._owner):
            self._deliveries.go(self._owner)

    def close(self) -> None:
        del self._local.requests[self._rid]
        self._local.background -= 1
        self._way.pause = None


class Delivery(Request):
    """One copy on its way to its owner."""

    __slots__ = ("hints", "key", "local", "owner", "read_ms", "record", "rid")

    def __init__(self, local: Local, hints: Hints, key: bytes, owner: bytes, record: bytes) -> None:
        self.local = local
        self.hints = hints
        self.key = key
        self.owner = owner
        self.record = record
        self.read_ms = local.stamp
        self.rid = 0

    @classmethod
    def start(cls, local: Local, hints: Hints, key: bytes, owner: bytes, record: bytes) -> None:
        delivery = cls(local, hints, key, owner, record)
        left = local.config.hint_retry_ms
        delivery.rid = local.open_request(delivery, local.now + left)
        local.background += 1
        # Durable even where acks do not wait for the disk: the put may have asked for that (dw),
        # and this copy may be the durable one. It may be less than a damaged one, so it replaces
        # none: see ``stored``.
        store = Store(delivery.rid, key, record, left, SYNC_YES, sent_ms=delivery.read_ms)
        local.out.send(owner, store)

    def about(self) -> bytes:
        return self.key

    def stored(self, source: Place, reply: StoreReply) -> None:
        if source != self.owner:
            return
        if reply.status == UNREADABLE:
            sometimes("a hint comes to an owner that cannot read its copy")
            # The copy kept here belongs to the join: the other owners may have lost theirs.
            mend(self.local, self.key, self.record, self.read_ms)
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
        self.hints.deliveries.ended(self.key, self.owner, delivered=delivered)
