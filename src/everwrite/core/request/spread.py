"""The copies of a put on their way: who has one, who must have one yet, and when that is enough
(Dynamo 4.5, 4.6).

    Store to every target -> W acks: answer -> all acks, or silence: stand-ins get hints -> over

Acks count by distinct node. An owner that stays silent for ``spare_after_ms``, refuses, or goes
down gets a stand-in with a hint, and so does a stand-in. Once the put was answered, and where
nobody can stand in, who is silent and up has LATE_TIMES as long. When nobody can stand in, this
node keeps the hint beside its own copy; for its own, when its disk is full, the others do. A node
that is told to stop waits for nobody who is late, and keeps what stand-ins do not take in time.
"""

from __future__ import annotations

from everwrite.core.cluster.routes import Route
from everwrite.core.errors import Outcome, QuorumNotMet
from everwrite.core.local import Local, Request
from everwrite.core.measures import SIBLINGS_TOLD, operation_of
from everwrite.core.messages.requests import (
    NOT_HERE,
    STORED,
    SYNC_BOTH,
    SYNC_NO,
    SYNC_YES,
    Put,
    PutReply,
    Store,
    StoreReply,
    Touch,
)
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.request.limits import no_disk, smaller
from everwrite.core.unsettled import PROMPT_MS

LATE_TIMES = 10
"""How many times ``spare_after_ms`` who is up may take for a put that was answered, or where
nobody can stand in."""

_NOBODY: frozenset[Place] = frozenset()
_NO_IDS: list[bytes] = []


class PutRequest(Request):
    """A put whose copies are on their way.

    ``pending``: each node that has not answered yet, and the owner whom it stands in for (empty:
    itself an owner).
    """

    __slots__ = (
        "_answered",
        "_awaited",
        "_context",
        "_data",
        "_deadline",
        "_durable",
        "_dw",
        "_fallbacks",
        "_half",
        "_late",
        "_local",
        "_owners",
        "_put",
        "_refused",
        "_rid",
        "_siblings",
        "_silent_copies",
        "_source",
        "_spares",
        "_sync",
        "_unheld",
        "_w",
        "base",
        "ends",
        "increments",
        "pending",
        "plain",
        "results",
        "unsure",
    )

    def __init__(
        self, local: Local, source: Place, put: Put | Touch, route: Route, mine: bytes, data: bytes
    ) -> None:
        self._local = local
        self._source = source
        self._put = put
        self._data = data
        n = put.n or local.routes.placement.replicas
        self._w = w = put.w or n // 2 + 1
        self._dw = dw = put.dw if put.dw >= 0 else (w if local.fsync else 0)
        self._sync = SYNC_NO if not dw else SYNC_YES if dw >= w else SYNC_BOTH
        if local.traces and self._sync and self.serves() in local.traces:
            self._sync = SYNC_BOTH  # so that the trace tells a copy written from one fsynced
        self.pending = dict(route.targets)
        if local.me not in self.pending:
            self.pending[local.me] = mine
        self._spares = [node for node in route.spares if node != local.me] if route.spares else []
        self._unheld = route.unheld
        self._silent_copies = route.late
        self._half = self._late = _NOBODY
        self._awaited = _NOBODY
        """Who is silent, up, and has more time: it was timed, once."""
        self._owners = self._fallbacks = self._durable = self._refused = 0
        self._answered = False
        self.base = b""
        """The fingerprint of the copy that the record was made from; empty: the others join."""
        self.ends = 0
        """When what was written ends, with all its copies, or the last of what was touched; 0:
        never."""
        self.plain = False
        """Whether neither the record nor that copy is listed anywhere beside (core/copies.py)."""
        self.unsure = put.retry
        """Whether the write may stand somewhere although nobody has said so."""
        self.results: list[int] = []
        """Of a change: what its operations have come to;"""
        self.increments = _NO_IDS
        """and the ids of what it has added to counters."""
        self._context = b""
        self._siblings = 0
        self._rid = 0
        self._deadline = local.now + put.timeout_ms

    def check_reach(self) -> None:
        """Refuse before anything is written if too few nodes are up."""
        pending = self.pending
        if self._dw and not self._local.durable:
            raise no_disk(self._dw)
        if len(pending) >= self._w and len(pending) >= self._dw and not self._put.strict:
            return
        reach = sum(not owner for owner in pending.values()) if self._put.strict else len(pending)
        if reach < self._w or len(pending) < self._dw:
            sometimes("a put is refused since too few nodes can be reached")
            self._local.counters.quorum_failures += 1
            few, most, what, name = reach, self._w, "take", "w"
            if reach >= self._w:
                few, most, what, name = len(pending), self._dw, "fsync", "dw"
            raise QuorumNotMet(
                f"Only {few} of the {most} nodes that must {what} this write can be reached.",
                hint="Nothing was written. "
                + smaller(self._local, most, f"write with a smaller {name}"),
                required=most,
            )

    def begin(self, token: bytes, siblings: int) -> None:
        """The copy here is written with this tick: send the others theirs, and count our own."""
        local, put = self._local, self._put
        self._context = token
        self._siblings = siblings
        spare_at = local.now + local.config.spare_after_ms
        self._rid = rid = local.open_request(self, min(spare_at, self._deadline))
        local.held_bytes += len(self._data)
        out, me, key, data, sync = local.out, local.me, put.key, self._data, self._sync
        sent = local.stamp
        op, touch = (put.op, 0) if isinstance(put, Put) else (b"", local.time_ms + put.ttl_ms)
        left, base, plain = put.timeout_ms, self.base, self.plain
        whole = Store(rid, key, data, left, sync, b"", False, base, op, sent, plain, touch)
        for node, owner in self.pending.items():
            if node == me:
                local.acknowledge(me, whole)
            elif owner:
                hint = Store(rid, key, data, left, sync, owner, False, b"", op, sent)
                out.send(node, hint)
            else:
                out.send(node, whole)
        for owner in self._unheld:
            self._note_here(owner)
        for node in self._silent_copies:  # it fills up: what is lost of these comes by its walk
            out.send(node, Store(0, key, data, left, SYNC_NO, b"", False, b"", op, sent))

    does = "coordinates the write"

    def serves(self) -> tuple[Place, int]:
        return self._source, self._put.rid

    def about(self) -> bytes:
        return self._put.key

    def asked_at(self, source: Place) -> int:
        # An owner is asked at the beginning, a stand-in perhaps later. Of two acks one counts.
        if self.pending.get(source) != b"" or source in self._half:  # type: ignore[arg-type]
            return -1
        return self._deadline - self._put.timeout_ms

    def silent(self) -> list[bytes]:
        seen = {self._local.me, *self._half, *self._late, *self._awaited}
        return [node for node, owner in self.pending.items() if not owner and node not in seen]

    def stored(self, source: Place, reply: StoreReply) -> None:
        owner = self.pending.get(source)  # type: ignore[arg-type]
        if owner is None:
            return
        if reply.status != STORED:
            self._refused += reply.status != NOT_HERE
            if source == self._local.me:
                # The batch was not written. But others of this tick may have read the copy from the
                # cache, or sent it on with a write of their own.
                sometimes("a coordinator's own copy is not written")
                self.unsure = True
            self._gone(source, owner)
            return
        if source in self._half:
            self._half -= {source}
        elif owner:
            self._fallbacks += 1
        else:
            self._owners += 1
        if reply.durable:
            self._durable += 1
        if self._sync == SYNC_BOTH and not reply.durable:
            sometimes("an ack says that a copy is written and not yet fsynced")
            self._half |= {source}
        else:
            del self.pending[source]  # type: ignore[arg-type]
        if not self._answered and self._met():
            self._answer()
        if self.increments and self._answered:
            self._settle()
        if not self.pending:
            self._check_end()

    def lost(self, peer: bytes) -> None:
        owner = self.pending.get(peer)
        if owner is not None:
            sometimes("a node goes down that should take a copy")
            self.unsure = True
            self._gone(peer, owner)

    def wake(self) -> None:
        """Give whoever was asked and is silent a stand-in, stand-ins too, until somebody has each
        copy.
        """
        local, silent = self._local, self._still_silent()
        if local.now >= self._deadline and not self._answered:
            if not self._spares:  # nobody was asked to stand in for them
                for node, owner in silent:
                    self._stand_in(node, owner)
            self._fail("in time")
            return
        soon = local.now + local.config.spare_after_ms
        if self._may_wait([node for node, _ in silent]):
            sometimes("whoever is silent and up has more time, since nobody waits for a stand-in")
            self._awaited = frozenset(node for node, _ in silent)
            local.wake_at(self._rid, soon if self._answered else min(soon, self._deadline))
            return
        if self._give_up(silent):
            local.wake_at(self._rid, soon if self._answered else min(soon, self._deadline))

    def give_up_waiting(self) -> None:
        """Others need the room: whoever is silent gets a stand-in now."""
        sometimes("the put that has waited longest for a late owner gives up for another")
        self._give_up(self._still_silent())

    def owes(self) -> bool:
        return any(node != self._local.me for node in self.pending)

    def hand_on(self) -> None:
        if self._answered:
            sometimes("a put that was answered is handed on before its coordinator stops")
            self._give_up(self._still_silent())

    def leave(self) -> None:
        local = self._local
        lacking = [
            owner or node
            for node, owner in self.pending.items()
            if node != local.me and node not in self._half
        ]
        for owner in dict.fromkeys(lacking):
            sometimes("a coordinator that stops keeps a hint for who has not taken a copy yet")
            self._note_here(owner)
        self._close()

    def _still_silent(self) -> list[tuple[Place, bytes]]:
        settled = {self._local.me, *self._half, *self._late}
        return [(node, owner) for node, owner in self.pending.items() if node not in settled]

    def _give_up(self, silent: list[tuple[Place, bytes]]) -> bool:
        """Give the silent stand-ins; say whether there is still somebody to hear of."""
        self._local.patience.end(self._rid)
        if self._answered:
            sometimes("a put was answered, and who is silent gets a stand-in after all")
            self.pending.clear()
        for node, owner in silent:
            self._late |= {node}
            self._stand_in(node, owner)
        if self._answered and not self.pending:
            self._close()
            return False
        return True

    def _gone(self, node: Place, owner: bytes) -> None:
        """A node will not take the copy: somebody else must, unless it was late and somebody
        does.
        """
        del self.pending[node]  # type: ignore[arg-type]
        if node not in self._late:
            self._stand_in(node, owner)
        self._check_end()

    def _close(self) -> None:
        del self._local.requests[self._rid]
        self._local.patience.end(self._rid)
        self._local.held_bytes -= len(self._data)

    def _met(self) -> bool:
        acks = self._owners if self._put.strict else self._owners + self._fallbacks
        return acks >= self._w and self._durable >= self._dw

    def _answer(self) -> None:
        self._answered = True
        local = self._local
        took_ms = local.now - self._deadline + self._put.timeout_ms
        local.pace.took("puts", took_ms * 1000, local.now)
        measures, siblings = local.measures, self._siblings
        measures.took[operation_of(self._put)].add(took_ms)
        measures.put_siblings[siblings if siblings < SIBLINGS_TOLD else SIBLINGS_TOLD] += 1
        if self._fallbacks:
            measures.fallback_puts += 1
        local.out.send(
            self._source,
            PutReply(
                self._put.rid,
                self._context,
                self._owners,
                self._fallbacks,
                self._durable,
                self._siblings,
                self._w,
                False,
                self.ends,
                self._local.time_ms if self.ends else 0,
                self._put.retry,
                self.results,
            ),
        )

    def _settle(self) -> None:
        """Its answer was prompt: then its client will hardly make its increments again. Once as
        many nodes as own the key have a copy, promptly too, nobody will who does not know them.
        """
        local, put = self._local, self._put
        if put.retry or self._took_ms() > PROMPT_MS:
            return
        routes = local.routes
        owners = routes.placement.owners(routes.partition_of(put.key))
        if self._owners + self._fallbacks >= len(owners):
            local.unsettled.settle(self.increments)
        else:
            local.unsettled.answered(put.key, self.increments)

    def _may_wait(self, silent: list[Place]) -> bool:
        """Say whether those that have not answered may take more time: a stand-in would help no
        client, and who is up will mostly take it. In an overloaded cluster all are late, and a
        hint for each put would be half as much work again. Only so many may wait: where they are
        too many, those that have waited longest get their stand-ins (core/patience.py).
        """
        local, put = self._local, self._put
        if local.stopping or (self._spares and not self._answered):
            return False
        waited_ms = local.now - (self._deadline - put.timeout_ms)
        most_ms = min(LATE_TIMES * local.config.spare_after_ms, put.timeout_ms)
        if waited_ms >= most_ms or not local.liveness.up.issuperset(silent):
            return False
        return local.patience.wait(self._rid, self, len(self._data))

    def _stand_in(self, node: Place, owner: bytes) -> None:
        """Somebody else keeps the copy for the owner whom ``node`` should have kept it for."""
        whom = owner or node
        local, put = self._local, self._put
        if self._spares:
            if owner:
                sometimes("somebody stands in for a stand-in")
            else:
                sometimes("somebody stands in for an owner that does not answer")
            spare = self._spares.pop(0)
            self.pending[spare] = whom  # type: ignore[assignment]
            local.counters.hedges += 1
            left = max(self._deadline - local.now, local.config.spare_after_ms)
            rid, key, sync, sent = self._rid, put.key, self._sync, local.stamp
            store = Store(rid, key, self._data, left, sync, whom, sent_ms=sent)  # type: ignore[arg-type]
            local.out.send(spare, store)
        elif whom != local.me:
            sometimes("nobody can stand in, and the hint is kept beside the own copy")
            self._note_here(whom)  # type: ignore[arg-type]
        else:
            sometimes("nobody can stand in for this node, and the others keep its hint")
            self._note_elsewhere()

    def _note_here(self, owner: bytes) -> None:
        """Keep a hint beside our own copy; it counts for nothing, but the owner will get
        its copy.
        """
        local, put = self._local, self._put
        left = put.timeout_ms
        store = Store(0, put.key, self._data, left, SYNC_NO, owner, sent_ms=local.stamp)
        local.out.send(local.me, store)

    def _note_elsewhere(self) -> None:
        """Our own disk did not take our copy, and nobody can stand in: the others keep a hint for
        us beside theirs.
        """
        local, put = self._local, self._put
        left, sent = put.timeout_ms, local.stamp
        store = Store(0, put.key, self._data, left, SYNC_NO, local.me, sent_ms=sent)
        for node, _ in local.routes.route(put.key, put.n).targets:
            if node != local.me:
                local.out.send(node, store)

    def _check_end(self) -> None:
        """Nobody is left to answer: if the quorum was not met by now, it will not be."""
        if self.pending:
            return
        if self._answered:
            local = self._local
            if self._owners >= (self._put.n or local.routes.placement.replicas):
                local.measures.visible.add(local.now - self._deadline + self._put.timeout_ms)
            self._close()
        else:
            self._fail("")

    def _took_ms(self) -> int:
        return self._local.now - (self._deadline - self._put.timeout_ms)

    def _fail(self, when: str) -> None:
        local = self._local
        self._close()
        local.counters.quorum_failures += 1
        acked = self._owners if self._put.strict else self._owners + self._fallbacks
        sure = not self.pending and not self.unsure and self._owners + self._fallbacks
        # Who is silent, or was lost, may have the copy too: then it stands on W after all.
        outcome: Outcome = "partial" if sure else "unknown"
        if sure:
            sometimes("a put has surely reached fewer nodes than it must")
        what = f"{acked} of the {self._w} nodes that must take this write did {when}".rstrip()
        if acked >= self._w:
            need = f"the {self._dw} nodes that must fsync this write"
            what = f"Only {self._durable} of {need} did {when}".rstrip()
        hint = "The write may appear later. Repeat it with the same context."
        if self._refused:
            what += f", {self._refused} refused it"
            hint += " Their logs say why: is a disk full?"
        local.fail(
            self._source,
            self._put,
            QuorumNotMet(
                f"{what}.",
                hint=hint,
                outcome=outcome,
                acked=acked,
                required=self._w,
            ),
            self._took_ms(),
        )
