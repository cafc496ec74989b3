"""Bugs by which partitions get lost on their way, or members disagree for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import xxhash

from everwrite.core.cluster import members
from everwrite.core.cluster.members import MemberTable
from everwrite.core.cluster.routes import Route, Routes
from everwrite.core.hints.hints import Hints
from everwrite.core.messages.members import Ruling
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Matched, Pull
from everwrite.core.messages.requests import ABSENT, NOT_HERE, SAME, FetchReply
from everwrite.core.moving import gain, give, shed
from everwrite.core.moving.gain import Gain
from everwrite.core.moving.give import Give
from everwrite.core.moving.moves import Moves
from everwrite.core.moving.ranges import Item
from everwrite.core.moving.shed import Shed
from everwrite.core.outbox import Outbox, Place
from everwrite.core.request.replica import Replica
from everwrite.sim.bugs.registry import Patch, area

bug = area("moving partitions")

LOST = (
    "proof",
    "lost",
    "overlap",
    "forgotten",
    "frontier",
    "session",
    "unread",
    "absent",
    "coverage",
)


@bug(
    "served-before-it-is-here",
    "a new owner says that it serves a partition before it has copied anything",
    rules=LOST,
    needs=("changing",),
)
def _served_before_it_is_here() -> list[Patch]:
    return [(Gain, "begin", lambda self: self._moves.prove(self))]


@bug(
    "not-proved-again",
    "a new owner does not walk the partition again once the old one has given it up",
    rules=LOST,
    needs=("changing",),
)
def _not_proved_again() -> list[Patch]:
    def gave_up(self: Gain, source: Place, reply: GaveUp) -> None:
        if reply.done:
            self._moves.prove(self)

    return [(Gain, "gave_up", gave_up)]


@bug(
    "gives-up-and-goes-on",
    "a node that was asked to give a partition up says so, and goes on serving it",
    rules=LOST,
    needs=("changing",),
)
def _gives_up_and_goes_on() -> list[Patch]:
    def give_up(self: Moves, source: Place, message: GiveUp) -> None:
        self._local.out.send(source, GaveUp(message.rid, True))

    return [(Moves, "give_up", give_up)]


@bug(
    "shed-unasked",
    "a node removes what it owns no more without asking the owners whether they have it",
    rules=("forgotten",),
    needs=("changing",),
)
def _shed_unasked() -> list[Patch]:
    def check(self: Shed) -> None:
        self._asked.clear()
        self._lacking.clear()
        right(self)

    right = Shed._check_slice
    return [(Shed, "_check_slice", check)]


@bug(
    "shed-on-unsynced",
    "an owner says that it has the same before that is on its disk for good",
    rules=("forgotten",),
    needs=("changing",),
)
def _shed_on_unsynced() -> list[Patch]:
    right = Give._answer

    def answer(self: Give, status: int) -> None:
        if status == SAME and isinstance(self._asked, Match):
            self._local.out.send(self._source, Matched(self._asked.rid, SAME, self._asked.step))
        else:
            right(self, status)

    return [(Give, "_answer", answer)]


@bug(
    "digest-of-keys",
    "ranges are compared by their keys alone",
    rules=LOST,
    needs=("changing",),
)
def _digest_of_keys() -> list[Patch]:
    def digest(items: Iterable[Item]) -> bytes:
        return xxhash.xxh3_128_digest(b"".join(key for key, _ in items))

    return [(where, "digest_of", digest) for where in (gain, give, shed)]


@bug(
    "last-slice-skipped",
    "a walk through a partition ends one slice early",
    rules=LOST,
    needs=("changing", "slice_keys"),
)
def _last_slice_skipped() -> list[Patch]:
    right = Gain._go_on

    def go_on(self: Gain, after: bytes) -> None:
        right(self, b"" if self._after else after)

    return [(Gain, "_go_on", go_on)]


@bug(
    "half-is-absent",
    "an owner that has not filled up yet says that a key is not there",
    rules=("absent", "lost", "unread"),
    needs=("changing",),
)
def _half_is_absent() -> list[Patch]:
    right = Outbox.send

    def send(self: Outbox, place: Place, message: Any) -> None:
        if isinstance(message, FetchReply) and message.status == NOT_HERE:
            message = FetchReply(message.rid, ABSENT, b"")
        right(self, place, message)

    def route(self: Routes, partition: int, n: int) -> Route:
        preference = self.placement.preference[partition]
        made = Route(preference, n or self.placement.replicas, self._me, self._liveness.up)
        self._made[(partition, n) if n else partition] = made
        return made

    return [(Outbox, "send", send), (Routes, "_make", route)]


@bug(
    "keeps-not-noted",
    "a node that fills up does not note on its disk that it has copies of a partition",
    rules=("placement",),
    needs=("changing",),
)
def _keeps_not_noted() -> list[Patch]:
    def wake(self: Moves) -> None:
        self._local.keeps &= self._local.serves | self._local.routes.owned
        right(self)

    right = Moves.wake
    return [(Moves, "wake", wake)]


@bug(
    "last-word-heard",
    "of two rulings on a node the one that came last counts, not the higher one",
    rules=("members", "calm", "placement", "convergence", "reachable"),
    needs=("changing",),
)
def _last_word_heard() -> list[Patch]:
    def rule(self: MemberTable, ruling: Ruling) -> bool:
        known = self.rulings.get(ruling.node_id)
        if known == ruling:
            return False
        self.rulings[ruling.node_id] = ruling
        return True

    return [(MemberTable, "_rule", rule)]


@bug(
    "removed-comes-back",
    "a later word brings back a node that was removed",
    rules=("members", "calm", "reachable", "stopped"),
    needs=("changing",),
)
def _removed_comes_back() -> list[Patch]:
    return [(members, "_weight", lambda ruling: (False, ruling.stamp, ruling.plan))]


@bug(
    "hints-of-the-gone-go-too",
    "hints for a node that owns a key no more are thrown away",
    rules=("hint", "handoff", "lost", "forgotten"),
    needs=("changing",),
)
def _hints_of_the_gone() -> list[Patch]:
    def turn(self: Hints, key: bytes, owner: bytes, payload: bytes) -> None:
        self._local.records.write(b"h" + key, None)
        for each in self.owners_of.get(key, ()):
            self._strike(key, each, "turned")
        self.deliveries.gone(key, owner)

    return [(Hints, "_turn_to_owners", turn)]


@bug(
    "strangers-are-taken-in",
    "a node takes copies of partitions that it neither owns nor serves",
    rules=("placement", "lost", "overlap", "quorum"),
    needs=("changing",),
)
def _strangers_taken_in() -> list[Patch]:
    right: Callable[..., None] = Replica.store

    def store(self: Replica, source: Place, message: Any) -> None:
        roles = self._local.routes.roles
        partition = self._local.routes.partition_of(message.key)
        role, roles[partition] = roles[partition], roles[partition] or 2
        right(self, source, message)
        roles[partition] = role

    return [(Replica, "store", store)]


@bug(
    "pulls-are-not-answered-by-keepers",
    "a node that gave a partition up does not give it to the one that took it over",
    rules=("calm",),
    needs=("changing",),
)
def _keepers_silent() -> list[Patch]:
    def may_answer(self: Moves, message: Pull | Match) -> bool:
        return bool(self._local.serves >> message.partition & 1)

    return [(Moves, "may_answer", may_answer)]
