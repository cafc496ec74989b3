"""The judges of a history: they know what clients asked, were told, and saw, and nothing else.

So they judge a simulated cluster and a real one alike. The rules, for each key:

    lost            an acknowledged put is in the last read, or in the past of what is
    resurrection    nothing in the last read is in the past of an acknowledged write
    phantom         a read finds only what was asked to be written, and not refused, before its end
    false sibling   no read finds two writes of which one was made in knowledge of the other
    overlap         a strict read of R owners finds what a strict write to W owners had finished
                    before, if R + W > N
    session         a read with a session token finds what the token stands for

"Past" is what writers had seen (``causality.py``). A delete leaves nothing to be found, so it
counts as found from the moment at which it may have happened. ``Allowed`` says which writes a rule
must spare: what a simulator knows exactly, and a real run can only assume.

Costs: one pass over the history, a few ORs for each operation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from everwrite.sim.causality import Causality
from everwrite.sim.history import Operation

LIST_MAX = 5
"""Violations of one rule and key that are put into words."""


class Breach(msgspec.Struct, frozen=True):
    """A rule that a history breaks."""

    rule: str
    sentence: str


class Allowed(msgspec.Struct):
    """Writes, by id, that a rule must spare."""

    lost: set[str] = msgspec.field(default_factory=set)
    """Acknowledged without being on any disk, and a power cut came."""
    lingering: set[str] = msgspec.field(default_factory=set)
    """May be found beside a later write that knew them: retried through another node and carried
    out there too, or named by a context to a node that had never heard of them."""
    executed: set[str] | None = None
    """Deletes that did happen; None: not known, so each that did not fail may have."""
    stale: set[str] = msgspec.field(default_factory=set)
    """Lost by one of their nodes: a strict read may miss them until they are repaired."""


def assumed(history: Iterable[Operation]) -> Allowed:
    """Return what a history without a simulator's knowledge has to spare."""
    return Allowed(lingering={each.id for each in history if each.is_write and each.tries > 1})


def check_history(history: Sequence[Operation], allowed: Allowed, replicas: int) -> list[Breach]:
    """Return all breaches of a history in which the last reads of each key came after the heal."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    breaches: list[Breach] = []
    for name in sorted(by_key):
        breaches += _KeyJudge(name, by_key[name], allowed, replicas).judge()
    return breaches


class _KeyJudge:
    """Judges the operations of one key."""

    def __init__(
        self, name: str, operations: list[Operation], allowed: Allowed, replicas: int
    ) -> None:
        self.name = name
        self.operations = sorted(operations, key=lambda each: (each.invoked, each.id))
        self.allowed = allowed
        self.replicas = replicas
        self.causality = Causality()
        self.writes: list[Operation] = []
        self.breaches: list[Breach] = []
        self.refused = 0
        self.deletes = 0
        """All that deletes, which may have happened, have made invisible."""

    def judge(self) -> list[Breach]:
        self._order_writes()
        causality = self.causality
        lingering = causality.mask(
            each for each in self.allowed.lingering if each in causality.place
        )
        for operation in self.operations:
            if operation.is_write or operation.outcome != "ok":
                continue
            found = self._found(operation)
            if found < 0:
                continue
            past = causality.pasts(found)
            if false := found & past & ~lingering:
                self._breach(
                    "false sibling",
                    f"{operation.describe()}: it found {causality.names(false)} beside a write "
                    "that was made in knowledge of it",
                )
            covered = found | past | self.deletes | self._hidden(operation)
            if operation.seen:
                self._check_session(operation, covered)
            if operation.strict:
                self._check_overlap(operation, covered)
        self._check_end(lingering)
        return self.breaches

    def _breach(self, rule: str, sentence: str) -> None:
        if sum(breach.rule == rule for breach in self.breaches) < LIST_MAX:
            self.breaches.append(Breach(rule, sentence))

    def _order_writes(self) -> None:
        causality, executed = self.causality, self.allowed.executed
        for operation in self.operations:
            if not operation.is_write:
                continue
            unknown = [each for each in operation.seen if each not in causality.place]
            if unknown:
                self._breach("phantom", f"{operation.describe()}: it had seen {unknown} too early")
            known = causality.mask(each for each in operation.seen if each in causality.place)
            place = causality.add(
                operation.id, causality.cover(known), delete=operation.kind == "delete"
            )
            self.writes.append(operation)
            if operation.outcome == "fail":
                self.refused |= 1 << place
            elif operation.kind == "delete" and (executed is None or operation.id in executed):
                self.deletes |= causality.cover(1 << place)

    def _found(self, operation: Operation) -> int:
        """Return what a read found as bits; -1 after a phantom."""
        found = 0
        for each in operation.found:
            place = self.causality.place.get(each)
            if place is None or self.writes[place].invoked > operation.completed:
                self._breach("phantom", f"{operation.describe()}: {each} was not written by then")
                return -1
            if self.refused >> place & 1:
                write = self.writes[place].describe()
                self._breach("phantom", f"{operation.describe()}: {each} was refused: {write}")
                return -1
            found |= 1 << place
        return found

    def _hidden(self, operation: Operation) -> int:
        place = self.causality.place
        return self.causality.cover(
            self.causality.mask(each for each in operation.hidden if each in place)
        )

    def _check_session(self, operation: Operation, covered: int) -> None:
        place = self.causality.place
        asked = self.causality.mask(each for each in operation.seen if each in place)
        lost = self.causality.mask(each for each in self.allowed.lost if each in place)
        if missing := asked & ~covered & ~lost:
            self._breach(
                "session",
                f"{operation.describe()}: its session had seen {self.causality.names(missing)}",
            )

    def _check_overlap(self, operation: Operation, covered: int) -> None:
        n = operation.n or self.replicas
        for place, write in enumerate(self.writes):
            if (
                write.outcome == "ok"
                and write.kind == "put"
                and write.strict
                and 0 <= write.completed < operation.invoked
                and (write.n or self.replicas) == n
                and write.q + operation.q > n
                and not covered >> place & 1
                and write.id not in self.allowed.stale
            ):
                self._breach(
                    "overlap",
                    f"{operation.describe()}: it read {operation.q} of {n} owners and missed "
                    f"{write.describe()}",
                )

    def _check_end(self, lingering: int) -> None:
        """Judge the last read of the key, which came after all else."""
        reads = [each for each in self.operations if not each.is_write and each.outcome == "ok"]
        if not reads:
            return
        last = max(reads, key=lambda each: each.completed)
        found = self._found(last)
        if found < 0:
            return
        causality = self.causality
        covered = causality.cover(found) | self.deletes | self._hidden(last)
        acknowledged = 0
        for place, write in enumerate(self.writes):
            if write.outcome != "ok":
                continue
            if write.id not in self.allowed.lost:
                acknowledged |= 1 << place
            lost = not covered >> place & 1 and write.id not in self.allowed.lost
            if lost and write.kind == "put":
                self._breach(
                    "lost",
                    f"{write.describe()}: acknowledged, and in the end not found, nor anything "
                    f"written in knowledge of it; found {causality.names(found)}",
                )
        back = found & causality.pasts(acknowledged) & ~lingering
        if back:
            self._breach(
                "resurrection",
                f"{causality.names(back)} on {self.name} is found in the end, though an "
                "acknowledged write superseded it",
            )
