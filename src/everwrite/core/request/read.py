"""The coordinator of a get (Dynamo 4.5).

    Get -> Fetch to the first N reachable -> R answers: join them, answer -> all answers, or
    silence: repair -> over

Answers count by distinct node. A fallback's copy counts when it has one. That a fallback has none
says nothing, so it counts only when no owner is left to wait for, or those left stay silent for
``spare_after_ms``. "Never written" is said only if every owner says so (``Quality.absent``, promise
P3): while all that was heard is "nothing", owners that are up are waited for, no longer than
``spare_after_ms``. An unreadable copy is no answer. After the answer the coordinator keeps
listening, and gives owners that lag behind what they lack: read repair.
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from everwrite.core.cluster.routes import Route
from everwrite.core.data import context, versions
from everwrite.core.data.versions import EMPTY, NOTHING, Record, Seen
from everwrite.core.errors import EverwriteError, InvariantError, QuorumNotMet, StaleSession
from everwrite.core.local import Local, Request
from everwrite.core.measures import SIBLINGS_TOLD
from everwrite.core.messages.requests import (
    ABSENT,
    FOUND,
    NOT_HERE,
    SYNC_NO,
    UNREADABLE,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Quality,
    Store,
)
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.request.forward import Forward
from everwrite.core.request.limits import smaller, time_unknown
from everwrite.core.request.search import Found, Search


class Reads:
    """The get coordinator of one node."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._mending: set[bytes] = set()

    def get(self, source: Place, message: Get) -> None:
        """A client's get, or one that another node forwarded."""
        local = self._local
        local.counters.gets += 1
        route = local.routes.route(message.key, message.n)
        if (
            route.mine is None
            and not message.forwarded
            and Forward.start(local, source, message, route)
        ):
            return
        try:
            seen = context.verify(local.context_key, message.key, message.seen)
            if local.is_over(seen.ends):
                seen = NOTHING
            GetRequest(local, source, message, route, seen).begin()
        except InvariantError:  # no answer to a client: the node stops
            raise
        except EverwriteError as error:
            local.fail(source, message, error)

    def mend(self, get: Get, record: bytes, read_ms: int) -> None:
        """Read a key for the sake of its repair, unless that is under way; ``record`` is a copy
        that this node has beside, read then.
        """
        local = self._local
        if get.key in self._mending:
            sometimes("a copy is to be mended while that is under way")
            return
        local.counters.gets += 1
        route = local.routes.route(get.key, get.n)
        request = Mending(local, local.me, get, route, NOTHING)
        request.under_way = self._mending
        try:
            request.begin()
        except QuorumNotMet as error:
            sometimes("a copy cannot be mended since too few nodes are up")
            local.fail(local.me, get, error)
        else:
            local.background += 1
            self._mending.add(get.key)
            if record:
                request.add(local.me, record, read_ms)


class GetRequest(Request):
    """A get whose answers are coming in.

    ``_heard`` has what each node holds (empty bytes: nothing); ``_damaged`` the owners whose copy
    is unreadable, ``_strange`` those that serve the partition no more; ``_empty`` counts fallbacks
    that have nothing that counts, ``_late`` says that owners were waited for long enough.
    """

    __slots__ = (
        "_answered",
        "_began",
        "_damaged",
        "_deadline",
        "_empty",
        "_fallbacks",
        "_get",
        "_heard",
        "_late",
        "_local",
        "_owners",
        "_pending",
        "_r",
        "_rid",
        "_route",
        "_seen",
        "_sought",
        "_source",
        "_spares",
        "_strange",
    )

    def __init__(self, local: Local, source: Place, get: Get, route: Route, seen: Seen) -> None:
        self._local = local
        self._source = source
        self._get = get
        self._route = route
        self._seen = seen
        n = get.n or local.routes.placement.replicas
        self._r = get.r or n // 2 + 1
        self._pending = [node for node, owner in route.targets if not (get.strict and owner)]
        self._spares = [] if get.strict else list(route.spares)
        self._heard: dict[bytes, bytes] = {}
        self._damaged: list[bytes] = []
        self._strange: set[bytes] = set()
        self._owners = self._fallbacks = self._empty = 0
        self._answered = self._late = self._sought = False
        self._rid = 0
        self._deadline = local.now + get.timeout_ms
        self._began = local.stamp
        """By this node's own count: what comes was read off a disk after this."""

    def add(self, node: bytes, record: bytes, read_ms: int) -> None:
        """Take what a node has that is not asked, and read then; it is joined, and counts as no
        answer.
        """
        if node not in self._pending:
            self._began = min(self._began, read_ms)
            self._heard[node] = record
            self._local.held_bytes += len(record)

    def begin(self) -> None:
        """Ask every target, oneself among them; refuse at once if too few nodes are up."""
        local, get = self._local, self._get
        if len(self._pending) < self._r:
            local.counters.quorum_failures += 1
            raise self._too_few("can be reached")
        spare_at = local.now + local.config.spare_after_ms
        self._rid = local.open_request(self, min(spare_at, self._deadline))
        fetch = Fetch(self._rid, get.key, get.timeout_ms)
        for node in self._pending:
            local.out.send(node, fetch)

    def asked_at(self, source: Place) -> int:
        # An owner is asked at the beginning, a stand-in perhaps later.
        asked = source in self._pending and source in self._route.owners
        return self._deadline - self._get.timeout_ms if asked else -1

    def fetched(self, source: Place, reply: FetchReply) -> None:
        if source not in self._pending:
            return
        node = source
        self._pending.remove(node)
        owner = node in self._route.owners
        if reply.status == FOUND or (reply.status == ABSENT and owner):
            self._hear(node, reply.record)
            if reply.fallback or not owner:
                self._fallbacks += 1
            else:
                self._owners += 1
        elif reply.status == NOT_HERE and reply.record:
            # It is joined. But whoever took over from it may know more: only an owner that fills up
            # counts, as a stand-in for itself.
            self._hear(node, reply.record)
            if (node, node) in self._route.targets:
                self._fallbacks += 1
            elif owner:
                sometimes("a read asks who has given the partition up meanwhile")
                self._strange.add(node)
                self._ask_spare()
            else:
                self._empty += 1
        elif reply.status == ABSENT or (reply.status == NOT_HERE and not owner):
            self._empty += 1
        else:
            if reply.status == UNREADABLE:
                sometimes("a read hears of a copy that cannot be read")
                self._damaged.append(node)
            self._ask_spare()
        self._look()

    def _hear(self, node: bytes, record: bytes) -> None:
        before = self._heard.get(node, b"")  # a spare may be who knew a record beforehand
        self._local.held_bytes += len(record) - len(before)
        self._heard[node] = record

    does = "coordinates the read"

    def serves(self) -> tuple[Place, int]:
        return self._source, self._get.rid

    def about(self) -> bytes:
        return self._get.key

    def lost(self, peer: bytes) -> None:
        if peer in self._pending:
            sometimes("a node goes down that was asked by a read")
            self._pending.remove(peer)
            self._ask_spare()
            self._look()

    def wake(self) -> None:
        local = self._local
        if self._answered:
            self._end()
            return
        if local.now < self._deadline:
            again = self._deadline
            if self._count() < self._r or self._seen is not NOTHING:
                # At first one for each that is silent; then, since spares may be silent too, as
                # many as are missing, for as long as there are any.
                missing = max(self._r - self._count(), 1)
                for _ in range(missing if self._late else len(self._pending)):
                    self._ask_spare()
                if self._spares:
                    again = min(again, local.now + local.config.spare_after_ms)
            local.wake_at(self._rid, again)
        self._late = True
        self._look()
        if local.now >= self._deadline and self._rid in local.requests:
            if self._answered:
                self._end()
            else:
                self._give_up()

    def _look(self) -> None:
        """Something happened: answer if that is enough now, end if nobody is left to wait for."""
        if not self._answered and self._count() >= self._r and not self._worth_waiting():
            self._answer()
        if not self._pending:
            if self._answered:
                self._end()
            elif self._rid in self._local.requests:
                self._give_up()

    def _count(self) -> int:
        """Return how many answers there are that count."""
        if self._get.strict:
            return self._owners
        count = self._owners + self._fallbacks
        if self._empty and count < self._r:
            owners = self._route.owners
            if self._late or not any(node in owners for node in self._pending):
                sometimes("a stand-in that has nothing counts, for want of an owner")
                return count + self._empty
        return count

    def _worth_waiting(self) -> bool:
        """Say whether there is nothing so far, and an owner that is up may yet have something."""
        if self._late or any(self._heard.values()):
            return False
        owners = self._route.owners
        return any(node in owners for node in self._pending)

    def _all_owners_heard(self, but: bytes = b"") -> bool:
        """Say whether every owner has answered, whatever smaller n was asked for; or every other
        one.
        """
        route = self._local.routes.route(self._get.key, 0)
        heard = self._heard.keys() - self._strange
        return route.whole and all(owner in heard for owner in route.owners if owner != but)

    def _ask_spare(self) -> None:
        if self._spares:
            sometimes("a read asks one node more")
            spare = self._spares.pop(0)
            self._pending.append(spare)
            self._local.counters.hedges += 1
            left = max(self._deadline - self._local.now, 1)
            self._local.out.send(spare, Fetch(self._rid, self._get.key, left))

    def _joined(self) -> tuple[bytes, Record | None]:
        """Return what all that was heard comes to, as bytes and as a record (None: nothing)."""
        joined = b""
        for data in self._heard.values():
            if data:
                joined = versions.merge_bytes(joined, data) if joined else data
        return joined, versions.decode(joined) if joined else None

    def _answer(self) -> None:
        """Answer if what was heard is enough for the session too; else go on listening."""
        local, get = self._local, self._get
        _, record = self._joined()
        if self._seen is not NOTHING and not _knows(record, self._seen):
            sometimes("a read goes on listening, since its session has seen more")
            return
        self._answered = True
        if self._source != local.me:
            local.pace.took("gets", self._took_ms() * 1000, local.now)
        if record is None:
            sure = self._all_owners_heard() and not local.routes.route(get.key, 0).stray
            if not sure:
                sometimes("a read cannot tell whether the key was ever written")
            quality = self._quality("never" if sure else "unknown")
            self._measure(0)
            local.out.send(self._source, GetReply(get.rid, [], b"", quality))
            return
        if _has_end(record) and not local.clock.known:
            local.fail(self._source, get, time_unknown(), self._took_ms())
            return
        time_ms = local.time_ms
        shown = versions.live(record, time_ms)
        found = versions.values_in(shown)
        if found > 1:
            local.counters.siblings_met += 1
        self._measure(found)
        seen = versions.seen_by_read(record)
        # What is as good as gone is not to be superseded: a put after it leaves no tombstone then.
        gone = versions.as_good_as_gone(record, seen, time_ms)
        token = b"" if gone else context.sign(local.context_key, get.key, seen)
        values = [(version.kind, version.value) for version in shown if version.value is not None]
        quality = self._quality("" if values else "expired" if _has_end(record) else "deleted")
        ends = [version.expires for version in shown]
        reply = (
            GetReply(get.rid, values, token, quality, False, ends, time_ms)
            if any(ends)
            else GetReply(get.rid, values, token, quality)
        )
        if get.marks:
            marks = [(version.actor, version.counter, version.time_ms) for version in shown]
            reply = replace(reply, marks=marks)
        local.out.send(self._source, reply)

    def _took_ms(self) -> int:
        return self._local.now - (self._deadline - self._get.timeout_ms)

    def _measure(self, found: int) -> None:
        """Count a get that is answered with so many values."""
        local = self._local
        if self._source != local.me:
            measures = local.measures
            measures.took["get"].add(local.now - self._deadline + self._get.timeout_ms)
            measures.get_siblings[found if found < SIBLINGS_TOLD else SIBLINGS_TOLD] += 1
            if self._fallbacks or self._empty:
                measures.fallback_gets += 1

    def _quality(self, absent: Literal["", "never", "deleted", "expired", "unknown"]) -> Quality:
        fallbacks = self._fallbacks + self._empty
        return Quality(self._owners, fallbacks, self._r, absent, len(self._damaged))

    def _end(self) -> None:
        del self._local.requests[self._rid]
        self._local.held_bytes -= sum(map(len, self._heard.values()))
        self._repair()

    def _sought_out(self, found: Found | None) -> None:
        """Everybody was asked what they know; None: not everybody has said."""
        if self._rid not in self._local.requests:
            return
        if found is None:
            self._give_up()
            return
        for node, record in found.items():
            self._hear(node, record)
        self._seen = NOTHING  # whoever knew as much has forgotten it by proof, or was lost
        self._answer()
        self._end()

    def _give_up(self) -> None:
        """Everybody answered or the time is over, and it was not enough."""
        local = self._local
        may_seek = local.generation and not self._sought and local.now < self._deadline
        if self._count() >= self._r and may_seek:
            self._sought = True
            key, owners = self._get.key, self._route.owners
            Search(local, key, owners, self._deadline, self._sought_out).begin()
            return
        self._end()
        if self._count() >= self._r:
            sometimes("nobody who answers has seen what the session has seen")
            error: EverwriteError = StaleSession(
                "The nodes that answered have not seen what this session has seen.",
                hint="Nothing was changed. Try again when more nodes are up.",
            )
        else:
            local.counters.quorum_failures += 1
            error = self._too_few("answered in time")
        local.fail(self._source, self._get, error, self._took_ms())

    def _repair(self) -> None:
        """Give each owner that answered with less than the join the join.

        A damaged copy is replaced only by the join of all others: what it holds beyond that may
        have been acked there, and must not be lost without a word.
        """
        joined, _ = self._joined()
        if not joined:
            return
        local, get = self._local, self._get
        stale = [node for node, data in self._heard.items() if data != joined]
        if stale:
            stale = self._lacking_more_than_what_ended(stale, joined)
            local.measures.stale_gets += bool(stale) and self._source != local.me
        spoilt = [node for node in self._damaged if self._all_owners_heard(but=node)]
        if len(spoilt) < len(self._damaged):
            sometimes("a damaged copy stays, since an owner has not said what it has")
        for node in [*stale, *spoilt]:
            if node in self._route.owners:
                local.counters.read_repairs += 1
                left = local.config.request_timeout_ms
                key, sent = get.key, self._began
                store = Store(0, key, joined, left, SYNC_NO, b"", True, sent_ms=sent)
                local.out.send(node, store)

    def _lacking_more_than_what_ended(self, stale: list[bytes], joined: bytes) -> list[bytes]:
        """Return those of these nodes that differ from the join in more than in how far they have
        gone with the purge of what has ended.
        """
        record, time_ms = versions.decode(joined), self._local.time_ms
        if not 0 < versions.next_end(record) <= time_ms:
            return stale
        due = versions.retire(record, time_ms + 1)
        return [
            node
            for node in stale
            if versions.retire(_record_of(self._heard[node]), time_ms + 1) != due
            and not (due is None and not self._heard[node])
        ]

    def _too_few(self, what: str) -> QuorumNotMet:
        unreadable = f", {len(self._damaged)} cannot read their copy" if self._damaged else ""
        count = self._count() if self._rid else len(self._pending)
        return QuorumNotMet(
            f"{count} of the {self._r} nodes that this read needs {what}{unreadable}.",
            hint="Nothing was changed. " + smaller(self._local, self._r, "read with a smaller r"),
            acked=count,
            required=self._r,
        )


class Mending(GetRequest):
    """A get that no client waits for. One at a time for each key, and not among those that a node
    takes from clients: where a node hears nothing its hints would else crowd them out.
    """

    __slots__ = ("under_way",)

    under_way: set[bytes]

    def _end(self) -> None:
        super()._end()
        self._local.background -= 1
        self.under_way.discard(self._get.key)


def _record_of(data: bytes) -> Record:
    return versions.decode(data) if data else EMPTY


def _has_end(record: Record) -> bool:
    return any(version.expires for version in record.siblings)


def _knows(record: Record | None, seen: Seen) -> bool:
    if record is None:
        return not seen.clock and not seen.dots
    return versions.descends(record.clock, seen.clock) and not versions.unknown_dots(record, seen)
