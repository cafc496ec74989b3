"""Which keys a bucket has: one step through the ring, from a place on it up to another.

    List -> Names to those who serve the partition there -> R answers: their union, up to where the
    shortest of them ends -> Listed, with the place to go on from

Keys lie by their hash, so a bucket is spread over the whole ring, and each step reads all keys of a
short range. R owners are asked, as for a get, and whatever any of them shows is told. So a key of
which W nodes have acknowledged a put is told as surely as a get would find it (R + W > N); one that
was deleted while an owner was away may be told as well, until that owner knows. A stand-in tells
the hints that it keeps; it counts when no owner is left to wait for. A copy that cannot be read is
told: its name is known, and what a get of it comes to is the get's affair. A node that does not
know the time, and so not what has ended, says nothing of a range in which something ends.

Nothing is remembered between steps: any node takes the next one.

Costs: a read of up to STEP_KEYS copies on N nodes, values included. It is for people and jobs, not
for the way of a request. A node reads for STEPS_MAX at a time; more are told BUSY.
"""

from __future__ import annotations

from everwrite.core.cluster.holdings import SERVES
from everwrite.core.data import versions
from everwrite.core.data.keys import checked_bucket
from everwrite.core.errors import EverwriteError, QuorumNotMet, RequestError
from everwrite.core.hints.hints import Hints
from everwrite.core.hints.kept import record_of
from everwrite.core.local import Local, Request
from everwrite.core.messages.listing import List, Listed, Named, Names
from everwrite.core.messages.requests import BUSY, FOUND, NOT_HERE, UNREADABLE
from everwrite.core.moving.ranges import Scan, Scanned, first_key
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, OWN, Damaged

STEP_KEYS = 256
STEP_BYTES = 1 << 20
"""What one step reads: half a millisecond to look through, like a slice of a move."""
STEPS_MAX = 8
"""Steps that a node reads for at a time."""
ALSO_MAX = 15
"""Buckets beside the first."""
AFTER_BYTES_MAX = 2048
"""A data key and more."""


class Listings:
    """Both sides of one node."""

    def __init__(self, local: Local, hints: Hints) -> None:
        self._local = local
        self.hints = hints
        self.reading = 0

    def list(self, source: Place, message: List) -> None:
        """A client's question."""
        try:
            check_list(message, self._local.cluster.replicas)
            Listing(self._local, source, message).begin()
        except EverwriteError as error:
            self._local.fail(source, message, error)

    def names(self, source: Place, message: Names) -> None:
        """A coordinator's question, of this node among others."""
        local = self._local
        if self.reading >= STEPS_MAX:
            sometimes("a node reads for as many listings as it will at a time")
            local.out.send(source, Named(message.rid, BUSY, []))
            return
        Reading(local, self, source, message).begin()


class Listing(Request):
    """One step whose answers are coming in."""

    __slots__ = (
        "_deadline",
        "_fallbacks",
        "_heard",
        "_last",
        "_list",
        "_local",
        "_owners",
        "_pending",
        "_r",
        "_rid",
        "_route",
        "_source",
    )

    def __init__(self, local: Local, source: Place, message: List) -> None:
        self._local = local
        self._source = source
        self._list = message
        self._route = local.routes.route(_place_of(message.after), 0)
        self._r = message.r or local.routes.placement.replicas // 2 + 1
        self._pending = [node for node, _ in self._route.targets]
        self._heard: set[bytes] = set()
        self._last = b""
        """Up to where all that answered have told everything; empty: to the partition's end."""
        self._owners = self._fallbacks = 0
        self._deadline = local.now + message.timeout_ms
        self._rid = 0

    def begin(self) -> None:
        """Ask every target, oneself among them; refuse at once if too few nodes are up."""
        local, asked = self._local, self._list
        if len(self._pending) < self._r:
            raise self._too_few("can be reached")
        self._rid = local.open_request(self, self._deadline)
        names = Names(
            self._rid, asked.bucket, asked.prefix, asked.after, asked.timeout_ms, asked.also
        )
        for node in self._pending:
            local.out.send(node, names)

    does = "coordinates a step of the listing"

    def serves(self) -> tuple[Place, int]:
        return self._source, self._list.rid

    def about(self) -> bytes:
        return _place_of(self._list.after)

    def named(self, source: Place, reply: Named) -> None:
        if source not in self._pending:
            return
        self._pending.remove(source)
        if reply.status in (FOUND, NOT_HERE):
            self._heard.update(reply.keys)
            if reply.last and (not self._last or reply.last < self._last):
                self._last = reply.last
            if reply.status == FOUND and source in self._route.owners:
                self._owners += 1
            elif source not in self._route.owners:
                self._fallbacks += 1
            else:
                sometimes("a listing asks who has given the partition up meanwhile")
        self._look()

    def lost(self, peer: bytes) -> None:
        if peer in self._pending:
            self._pending.remove(peer)
            self._look()

    def wake(self) -> None:
        if self._rid not in self._local.requests or self._local.now < self._deadline:
            return
        self._pending.clear()
        self._look()

    def _look(self) -> None:
        """Something happened: answer if that is enough now, end if nobody is left to wait for."""
        if self._rid not in self._local.requests:
            return
        awaited = any(node in self._route.owners for node in self._pending)
        count = self._owners + (0 if awaited else self._fallbacks)
        if count >= self._r:
            self._end()
            self._answer()
        elif not self._pending:
            self._end()
            self._local.counters.quorum_failures += 1
            error = self._too_few("answered in time")
            self._local.fail(self._source, self._list, error, self._took_ms())

    def _answer(self) -> None:
        local, asked, last = self._local, self._list, self._last
        begin = 9 + len(asked.bucket)
        told = sorted(key for key in self._heard if not last or key <= last)
        keys = told if asked.also else [key[begin:] for key in told]
        quality = (self._owners, self._fallbacks, self._r)
        local.measures.took["list"].add(self._took_ms())
        local.out.send(
            self._source, Listed(asked.rid, keys, last or self._next_partition(), *quality)
        )

    def _next_partition(self) -> bytes:
        """Return where the partition behind this one begins; empty behind the last one."""
        routes = self._local.routes
        partition = routes.partition_of(_place_of(self._list.after)) + 1
        partitions = routes.placement.partitions
        return first_key(partition, partitions) if partition < partitions else b""

    def _end(self) -> None:
        del self._local.requests[self._rid]

    def _took_ms(self) -> int:
        return self._local.now - (self._deadline - self._list.timeout_ms)

    def _too_few(self, what: str) -> QuorumNotMet:
        count = self._owners + self._fallbacks if self._rid else len(self._pending)
        return QuorumNotMet(
            f"{count} of the {self._r} nodes that this listing needs {what}.",
            hint="Try again from the same place, or list with a smaller r.",
            acked=count,
            required=self._r,
        )


class Reading(Request):
    """One range that is read for a coordinator: own copies, then what is kept for others."""

    __slots__ = ("_asked", "_keys", "_last", "_listings", "_local", "_rid", "_sides", "_source")

    def __init__(self, local: Local, listings: Listings, source: Place, asked: Names) -> None:
        self._local = local
        self._listings = listings
        self._source = source
        self._asked = asked
        self._sides = [OWN, HINT] if listings.hints.notes else [OWN]
        self._keys: list[bytes] = []
        self._last = b""
        self._rid = 0

    def begin(self) -> None:
        local = self._local
        local.pace.control.serving(local.now)
        self._listings.reading += 1
        local.background += 1
        self._rid = local.open_request(self, local.now + max(self._asked.left_ms, 1))
        self._read()

    does = "reads its disk"

    def serves(self) -> tuple[Place, int] | None:
        own = self._source == self._local.me  # else the number is another node's
        step = self._local.requests.get(self._asked.rid) if own else None
        return step.serves() if step is not None else None

    def about(self) -> bytes:
        return _place_of(self._asked.after)

    def _read(self) -> None:
        local, after = self._local, self._asked.after
        partitions = local.routes.placement.partitions
        partition = local.routes.partition_of(_place_of(after)) + 1
        side = self._sides[0]
        start = after + b"\0" if after else bytes(8)
        end = bytes((side[0] + 1,))
        if partition < partitions:
            end = side + first_key(partition, partitions)
        local.out.scans.append(Scan(self._rid, side + start, end, STEP_KEYS, STEP_BYTES))

    def scanned(self, scanned: Scanned) -> None:
        asked, clock, time_ms = self._asked, self._local.clock, self._local.time_ms
        buckets = (asked.bucket, *asked.also)
        wanted = tuple(bytes((len(each),)) + each + asked.prefix for each in buckets)
        own = self._sides.pop(0) == OWN
        for disk_key, payload in scanned.pairs:
            if not disk_key.startswith(wanted, 9):
                continue
            if isinstance(payload, Damaged):
                sometimes("a listing meets a copy that cannot be read")
                self._keys.append(disk_key[1:])
                continue
            record = versions.decode(payload[8:] if own else record_of(payload))
            if not clock.known and versions.has_end(record):  # it cannot say what has ended
                self._keys.clear()
                self._answer(BUSY)
                return
            if versions.live(record, time_ms):
                self._keys.append(disk_key[1:])
        if scanned.more:
            last = scanned.pairs[-1][0][1:]
            self._last = min(self._last, last) if self._last else last
        if self._sides:
            self._read()
            return
        serves = self._local.routes.role(_place_of(asked.after)) == SERVES
        self._answer(FOUND if serves else NOT_HERE)

    def unscanned(self) -> None:
        self._keys.clear()
        self._answer(UNREADABLE)

    def wake(self) -> None:
        self._keys.clear()
        self._answer(BUSY)

    def _answer(self, status: int) -> None:
        local = self._local
        del local.requests[self._rid]
        local.background -= 1
        self._listings.reading -= 1
        reply = Named(self._asked.rid, status, self._keys, self._last)
        local.out.send(self._source, reply)


def check_list(message: List, replicas: int) -> None:
    """Raise RequestError for a question that cannot be."""
    if len(message.also) > ALSO_MAX:
        raise RequestError(
            f"{len(message.also) + 1} buckets cannot be listed at once.",
            hint=f"Ask for {ALSO_MAX + 1} at most.",
        )
    for bucket in (message.bucket, *message.also):
        checked_bucket(bucket)
    if len(message.after) > AFTER_BYTES_MAX or 0 < len(message.after) < 8:
        raise RequestError("That is no place to go on from.", hint="Give one that an answer gave.")
    if not 0 <= message.r <= replicas:
        raise RequestError(
            f"r = {message.r} is not possible with n = {replicas}.", hint=f"Use 1 to {replicas}."
        )


def _place_of(after: bytes) -> bytes:
    """Return where on the ring a step begins."""
    return after[:8] if after else bytes(8)
