"""Bugs in the coordinator of a put: what it counts, what it says, and whom it leaves out."""

from __future__ import annotations

from msgspec.structs import replace

from everwrite.core.cluster.holdings import SERVES
from everwrite.core.errors import EverwriteError, QuorumNotMet
from everwrite.core.local import Local
from everwrite.core.measures import Asked
from everwrite.core.messages.requests import STORED, Store, StoreReply
from everwrite.core.outbox import Place
from everwrite.core.request.replica import Replica
from everwrite.core.request.spread import PutRequest
from everwrite.sim.bugs.registry import Patch, area
from everwrite.sim.rest import BREAK_HANDOFF

bug = area("puts")

QUIET = (*BREAK_HANDOFF, "parked_max", "hints_max", "hints_bytes_max")
"""Where these are on nobody owes it to an owner to bring it each copy."""


@bug("ack-before-w", "a put is answered at its first ack", rules=("quorum",))
def _ack_before_w() -> list[Patch]:
    return [(PutRequest, "_met", lambda self: self._owners + self._fallbacks >= 1)]


@bug("strict-counts-fallbacks", "stand-ins count as owners in a strict put", rules=("quorum",))
def _strict_counts_fallbacks() -> list[Patch]:
    def met(self: PutRequest) -> bool:
        return self._owners + self._fallbacks >= self._w and self._durable >= self._dw

    return [(PutRequest, "_met", met)]


@bug("ack-twice", "an ack that comes twice counts twice", rules=("quorum",), needs=("duplicate",))
def _ack_twice() -> list[Patch]:
    counted = PutRequest.stored

    def stored(self: PutRequest, source: Place, reply: StoreReply) -> None:
        owner = self.pending.get(source)  # type: ignore[arg-type]
        counted(self, source, reply)
        if owner is not None and not self._answered and type(source) is bytes:
            self.pending[source] = owner

    return [(PutRequest, "stored", stored)]


@bug(
    "refusal-is-an-ack",
    "every answer to a Store counts as an ack, a refusal too",
    rules=("quorum",),
)
def _refusal_is_an_ack() -> list[Patch]:
    right = PutRequest.stored

    def stored(self: PutRequest, source: Place, reply: StoreReply) -> None:
        right(self, source, replace(reply, status=STORED))

    return [(PutRequest, "stored", stored)]


@bug(
    "written-is-durable",
    "a coordinator counts the ack of a written copy for one of a durable copy",
    rules=("quorum",),
)
def _written_is_durable() -> list[Patch]:
    right = PutRequest.stored

    def stored(self: PutRequest, source: Place, reply: StoreReply) -> None:
        right(self, source, replace(reply, durable=reply.status == STORED))

    return [(PutRequest, "stored", stored)]


@bug(
    "timeout-surely-failed",
    "a put that did not reach its quorum in time is said not to have happened",
    rules=("outcome", "phantom"),
)
def _timeout_surely_failed() -> list[Patch]:
    right = Local.fail

    def fail(
        self: Local, source: Place, asked: Asked, error: EverwriteError, took_ms: int = 0
    ) -> None:
        if isinstance(error, QuorumNotMet):
            error.outcome = "none"
        right(self, source, asked, error, took_ms)

    return [(Local, "fail", fail)]


@bug(
    "answered-put-forgets",
    "once a put is answered, owners that stay silent get no stand-in",
    rules=("handoff",),
    without=QUIET,
)
def _answered_put_forgets() -> list[Patch]:
    right = PutRequest.wake

    def wake(self: PutRequest) -> None:
        if self._answered:
            self._close()
        else:
            right(self)

    return [(PutRequest, "wake", wake)]


@bug(
    "stand-in-for-stand-in",
    "who takes a silent stand-in's place keeps the copy for that stand-in",
    rules=("placement", "handoff"),
)
def _stand_in_for_stand_in() -> list[Patch]:
    right = PutRequest._stand_in

    def stand_in(self: PutRequest, node: Place, owner: bytes) -> None:
        right(self, node, b"")

    def store(self: Replica, source: Place, message: Store) -> None:
        roles = self._local.routes.roles
        partition = self._local.routes.partition_of(message.key)
        role, roles[partition] = roles[partition], roles[partition] or SERVES
        store_right(self, source, message)
        roles[partition] = role

    store_right = Replica.store
    return [(PutRequest, "_stand_in", stand_in), (Replica, "store", store)]


@bug(
    "no-note-beside-own-copy",
    "an owner that is down while nobody can stand in gets no hint",
    rules=("handoff",),
    without=QUIET,
)
def _no_note_beside_own_copy() -> list[Patch]:
    return [(PutRequest, "_note_here", lambda self, owner: None)]


@bug("requests-leak", "a put that was answered stays in the table", rules=("calm", "bounds"))
def _requests_leak() -> list[Patch]:
    def wake(self: PutRequest) -> None:
        if not self._answered:
            right(self)

    right = PutRequest.wake
    return [(PutRequest, "wake", wake)]


@bug(
    "held-bytes-leak",
    "what a put holds is not given back when it is over",
    rules=("bounds",),
)
def _held_bytes_leak() -> list[Patch]:
    def close(self: PutRequest) -> None:
        del self._local.requests[self._rid]

    return [(PutRequest, "_close", close)]
