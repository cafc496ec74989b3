"""Bugs in how owners compare their copies and give each other what they lack."""

from __future__ import annotations

from itertools import count

from everwrite.core.messages.requests import SAME
from everwrite.core.messages.trees import Rooted, Roots
from everwrite.core.outbox import Outbox, Place
from everwrite.core.records import OWN
from everwrite.core.repair.answer import Answer, Answers
from everwrite.core.repair.carry import Carry
from everwrite.core.repair.exchange import Exchange
from everwrite.core.repair.repairs import Repairs
from everwrite.core.trees.trees import LEAF_BITS, Trees
from everwrite.sim.bugs.registry import Patch, area

bug = area("anti-entropy")

APART = ("agreement", "convergence")


@bug(
    "exchange-says-same",
    "an owner says that it has the same, whatever it has",
    rules=APART,
    needs=("repairs",),
)
def _exchange_says_same() -> list[Patch]:
    def roots(self: Answers, source: Place, message: Roots) -> None:
        assert isinstance(source, bytes)
        self._repairs.tell(source, Rooted(message.rid, [SAME] * len(message.roots)))

    return [(Answers, "roots", roots)]


@bug(
    "exchange-overwrites",
    "the copy of a peer takes the place of the own one, with which it should be merged",
    rules=("forgotten", "lost"),
    needs=("repairs", "old_disk"),
)
def _exchange_overwrites() -> list[Patch]:
    right = Carry.begin

    def begin(self: Carry) -> None:
        copy, local = self._copy, self._local
        if copy.target == local.me and isinstance(local.records.look(OWN + copy.key), bytes):
            local.records.write(OWN + copy.key, bytes(8) + copy.record)
        right(self)

    return [(Carry, "begin", begin)]


@bug(
    "exchange-is-never-over",
    "an exchange that is broken off keeps its partition for itself",
    rules=APART,
    needs=("repairs",),
)
def _exchange_is_never_over() -> list[Patch]:
    def ended(self: Repairs, exchange: Exchange, why: str) -> None:
        self.counters.broken_off += 1

    return [(Repairs, "ended", ended)]


@bug(
    "answers-are-never-over",
    "a question that was answered leaves no room for others",
    rules=APART,
    needs=("repairs", "old_disk"),
)
def _answers_are_never_over() -> list[Patch]:
    right = Answer._end

    def end(self: Answer, status: int, last: bytes = b"") -> None:
        right(self, status, last)
        self._repairs.answers.answering += 2 * self._local.config.repairs_max

    return [(Answer, "_end", end)]


@bug(
    "entry-of-this-node",
    "what a copy adds to the tree depends on the node that has it",
    rules=("rest",),
    needs=("repairs",),
)
def _entry_of_this_node() -> list[Patch]:
    right, numbers = Trees.__init__, count(1)

    def init(
        self: Trees, out: Outbox, seed: int, partitions: int, leaf_bits: int = LEAF_BITS
    ) -> None:
        right(self, out, seed, partitions, leaf_bits)
        self._seed = seed ^ next(numbers)  # its shape says nothing of that

    return [(Trees, "__init__", init)]
