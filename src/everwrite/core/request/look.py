"""Looking around before a put is minted: was it carried out already, and what do the others know?

A retry may come to another node than its first try did. The node asks the other replicas, joins
what they hold to its own copy, and only then decides; so a put that reached anybody who answers is
not minted twice. (One that reached nobody who answers may be: then two versions carry one request
id, and readers see one of them, see ``versions.live``.)
"""

from __future__ import annotations

from msgspec.structs import replace

from everwrite.core.cluster.routes import Route
from everwrite.core.data import context, versions
from everwrite.core.data.versions import NOTHING, Clock, Record, Seen, Version
from everwrite.core.local import Local, Request
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import ABSENT, FOUND, NOT_HERE, Fetch, FetchReply, Put, Touch
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import weight
from everwrite.core.request.limits import looked_too_long
from everwrite.core.request.search import Found, Search


class LookedAround(Message, frozen=True, tag=102):
    """To oneself: this put of a client has looked at the other replicas; carry it out."""

    source: Place
    put: Put | Touch
    found: Version | None = None
    """What an earlier try of it wrote, if somebody has that or had it when asked."""
    known: Clock | None = None
    """Somebody stored an earlier try lately, whether or not it still stands: whoever knows this
    clock knows that write.
    """
    record: bytes = b""
    """What the others hold, joined: the put is made on top of it. It travels here and not by way of
    the disk, since a stand-in's copy may be on its way home, and struck out, before this comes.
    """
    heard: int = 0
    """How many owners have said what they hold."""
    nobody_knows: bool = False
    """Whether every member was asked for what a change's writer has seen, and has said: it was
    collected, or is lost."""


class LookAround(Request):
    """Ask the other replicas before a put is minted: was it carried out already, what do they
    know?
    """

    __slots__ = (
        "_base",
        "_began",
        "_found",
        "_heard",
        "_known",
        "_local",
        "_need",
        "_owners",
        "_pending",
        "_put",
        "_record",
        "_rid",
        "_source",
        "_targets",
        "_tried",
        "_until",
    )

    def __init__(
        self,
        local: Local,
        source: Place,
        put: Put | Touch,
        route: Route,
        mine: bytes,
        base: Record,
        *,
        tried: bytes = b"",
    ) -> None:
        """``tried``: the node to which this put was handed on, and that did not answer."""
        self._local = local
        self._source = source
        self._put = put
        self._base = base
        self._record = b""
        self._owners = route.owners
        self._targets = {node for node, _ in route.targets if node != local.me}
        self._pending = set(self._targets)
        n = put.n or local.routes.placement.replicas
        self._need = min(len(self._pending), n // 2 + 1)
        if self._to_be_known() is not NOTHING:
            self._need = len(self._pending)  # that nobody knows a write, all owners must say
        self._tried = b""
        if tried and local.liveness.state(tried) != "down":
            # It may have made the put and wait for others: nobody knows better, and what it says
            # is waited for, for half the put's time at most: it was silent already. Where others
            # stand in for it, its word does not count for theirs.
            self._tried = tried
            self._pending.add(tried)
        self._rid = self._heard = self._began = self._until = 0
        self._known = base.clock if not mine and put.op in local.recent_puts else None
        # Joined with what the others have it may be superseded, and no sibling any more.
        self._found = find_op(base, put.op)
        if self._known is not None and self._found is None:
            sometimes("a retry of a put that was superseded comes to a node that remembers it")

    def begin(self) -> None:
        """Ask; with nobody to ask the put goes on at once."""
        local, put = self._local, self._put
        self._began = local.now
        self._until = local.now + self._patience_ms()
        self._rid = local.open_request(self, self._until)
        if self._tried:
            local.wake_at(self._rid, min(self._until, local.now + self._left_ms() // 2))
        local.held_bytes += weight(put)
        for node in sorted(self._pending):
            local.out.send(node, Fetch(self._rid, put.key, put.timeout_ms, b"", False, put.op))
        if not self._pending:
            sometimes("a put that must look around has nobody to ask")
        self._check_end()

    def fetched(self, source: Place, reply: FetchReply) -> None:
        if source not in self._pending:
            return
        self._pending.discard(source)
        strange = reply.status == NOT_HERE and source not in self._owners
        if strange or reply.status in (FOUND, ABSENT):
            self._need -= source in self._targets
            self._heard += source in self._owners and not strange
        if reply.op_known and not reply.record:
            # It was stored there, and is gone with the tombstone that superseded it.
            self._known = self._known or {}
        if reply.record:
            self._join(reply.record)
            if reply.op_known or self._found is None:
                record = versions.decode(reply.record)
                if reply.op_known:
                    self._known = versions.join(self._known or {}, record.clock)
                if self._found is None:
                    self._found = find_op(record, self._put.op)
                if self._found is not None:
                    sometimes("looking around finds an earlier try on another node")
                elif reply.op_known:
                    sometimes("looking around finds who remembers a try that was superseded")
        self._check_end()

    def _join(self, record: bytes) -> None:
        before = self._record
        self._record = versions.merge_bytes(before, record) if before else record
        self._local.held_bytes += len(self._record) - len(before)

    def about(self) -> bytes:
        return self._put.key

    def lost(self, peer: bytes) -> None:
        if peer in self._pending:
            sometimes("a node goes down that was asked while looking around")
            self._pending.discard(peer)
            self._check_end()

    def wake(self) -> None:
        self._tried = b""
        if self._local.now >= self._until:
            sometimes("looking around ends with nodes that stayed silent")
            self._need = 0
        self._check_end()

    def _check_end(self) -> None:
        if self._tried in self._pending or (self._pending and self._need > 0):
            return
        local, put = self._local, self._put
        del local.requests[self._rid]
        if self._pending or self._left_ms() <= 0 or not self._is_unknown():
            self._done(nobody_knows=False)
            return
        # Owners are not all: a stand-in may be about to bring it.
        sometimes("a change asks everybody for what its writer has seen")
        deadline = local.now + self._patience_ms()
        Search(local, put.key, self._owners, deadline, self._sought_out).begin()

    def _left_ms(self) -> int:
        """Return how much of the put's time is left."""
        return self._put.timeout_ms - (self._local.now - self._began)

    def _patience_ms(self) -> int:
        """Return how long the others are waited for. Never less so that time is left for the put:
        it would be minted a second time, though somebody who was about to answer had it.
        """
        return max(1, min(self._local.config.spare_after_ms, self._left_ms()))

    def _is_unknown(self) -> bool:
        """Say whether nobody who has answered knows what the writer of a change has seen."""
        seen, base = self._to_be_known(), self._base
        if seen is NOTHING:
            return False
        if self._record:
            base = versions.merge(base, versions.decode(self._record))
        return not versions.knows(base, seen)

    def _to_be_known(self) -> Seen:
        """Return what the writer of a change has seen, unless all of that has ended."""
        local, put = self._local, self._put
        if not isinstance(put, Put) or not (put.change and put.context):
            return NOTHING
        seen = context.verify(local.context_key, put.key, put.context)
        return NOTHING if local.is_over(seen.ends) else seen

    def _sought_out(self, found: Found | None) -> None:
        """Everybody was asked; None: not everybody has said."""
        for record in (found or {}).values():
            if record:
                self._join(record)
                if self._found is None:
                    self._found = find_op(versions.decode(record), self._put.op)
        self._done(nobody_knows=found is not None)

    def _done(self, *, nobody_knows: bool) -> None:
        """Carry the put out, in what is left of its time."""
        local, left = self._local, self._left_ms()
        local.held_bytes -= weight(self._put) + len(self._record)
        if left <= 0:
            sometimes("a put's time is over before all have said what they know of it")
            local.counters.expired += 1
            error = looked_too_long(again=self._put.retry)
            local.fail(self._source, self._put, error, local.now - self._began)
            return
        put = replace(self._put, timeout_ms=left)
        local.out.send(
            local.me,
            LookedAround(
                self._source,
                put,
                self._found,
                self._known,
                self._record,
                self._heard,
                nobody_knows,
            ),
        )


def find_op(record: Record, op: bytes) -> Version | None:
    """Return the sibling that this request id wrote."""
    for version in record.siblings:
        if version.op == op:
            return version
    return None
