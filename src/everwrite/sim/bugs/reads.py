"""Bugs in the coordinator of a get, in what a replica tells it, and in read repair."""

from __future__ import annotations

from typing import Literal

import msgspec

from everwrite.core.data import versions
from everwrite.core.data.versions import Record
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import (
    ABSENT,
    SYNC_NO,
    UNREADABLE,
    Fetch,
    FetchReply,
    Quality,
    Store,
)
from everwrite.core.outbox import Outbox, Place
from everwrite.core.records import HINT, Damaged
from everwrite.core.request.read import GetRequest
from everwrite.core.request.replica import Replica
from everwrite.sim.bugs.registry import Patch, area

bug = area("reads and repair")


@bug("answer-after-one", "a get is answered after its first reply", rules=("quorum", "overlap"))
def _answer_after_one() -> list[Patch]:
    right = GetRequest._count

    def count(self: GetRequest) -> int:
        return self._r if right(self) else 0

    return [(GetRequest, "_count", count)]


@bug(
    "reply-twice",
    "a reply that comes twice counts twice",
    rules=("quorum",),
    needs=("duplicate",),
)
def _reply_twice() -> list[Patch]:
    right = GetRequest.fetched

    def fetched(self: GetRequest, source: Place, reply: FetchReply) -> None:
        asked = source in self._pending
        right(self, source, reply)
        if asked and not self._answered and type(source) is bytes:
            self._pending.append(source)

    return [(GetRequest, "fetched", fetched)]


@bug(
    "unreadable-counts",
    "a get counts the answer of a node that cannot read its copy",
    rules=("coverage", "overlap", "quorum", "session"),
    needs=("read_errors",),
)
def _unreadable_counts() -> list[Patch]:
    right = GetRequest.fetched

    def fetched(self: GetRequest, source: Place, reply: FetchReply) -> None:
        if reply.status == UNREADABLE:
            reply = msgspec.structs.replace(reply, status=ABSENT)
        right(self, source, reply)

    return [(GetRequest, "fetched", fetched)]


@bug(
    "never-said-early",
    "a get says that a key was never written before all owners have said so",
    rules=("absent",),
)
def _never_said_early() -> list[Patch]:
    right = GetRequest._quality

    def quality(
        self: GetRequest, absent: Literal["", "never", "deleted", "expired", "unknown"]
    ) -> Quality:
        return right(self, "never" if absent == "unknown" else absent)

    return [(GetRequest, "_quality", quality)]


@bug(
    "hints-not-read",
    "a stand-in answers a get without the copy that it keeps for others",
    rules=("coverage",),
)
def _hints_not_read() -> list[Patch]:
    def join_hint(self: Replica, source: Place, message: Fetch, record: bytes) -> bytes:
        return record

    return [(Replica, "_join_hint", join_hint)]


@bug(
    "unreadable-hint-is-absent",
    "a stand-in that cannot read the copy that it keeps for others answers without it",
    rules=("coverage",),
    needs=("read_errors",),
)
def _unreadable_hint_is_absent() -> list[Patch]:
    right = Replica._join_hint

    def join_hint(self: Replica, source: Place, message: Fetch, record: bytes) -> bytes | None:
        kept = self._local.records.look(HINT + message.key)
        if isinstance(kept, Damaged):
            return record
        return right(self, source, message, record)

    return [(Replica, "_join_hint", join_hint)]


@bug(
    "repair-drops-sibling",
    "read repair gives the owner one sibling less",
    rules=("frontier",),
)
def _repair_drops_sibling() -> list[Patch]:
    right = Outbox.send

    def send(self: Outbox, place: Place, message: Message) -> None:
        if type(message) is Store and message.repair and not message.rid:
            record = versions.decode(message.record)
            if len(record.siblings) > 1:
                less = versions.encode(Record(record.clock, record.siblings[:-1]))
                message = msgspec.structs.replace(message, record=less)
        right(self, place, message)

    return [(Outbox, "send", send)]


@bug(
    "no-read-repair",
    "owners that lag behind are left so",
    rules=("convergence",),
    without=("repairs",),
)
def _no_read_repair() -> list[Patch]:
    return [(GetRequest, "_repair", lambda self: None)]


@bug(
    "repair-pushes-winner",
    "read repair gives owners the largest reply, and not the join of all",
    rules=("convergence",),
    without=("repairs",),
)
def _repair_pushes_winner() -> list[Patch]:
    def repair(self: GetRequest) -> None:
        winner = max(self._heard.values(), key=len, default=b"")
        for node, data in self._heard.items():
            if winner and data != winner and node in self._route.owners:
                store = Store(0, self._get.key, winner, 1000, SYNC_NO, b"", True)
                self._local.out.send(node, store)

    return [(GetRequest, "_repair", repair)]
