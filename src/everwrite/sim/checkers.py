"""The judges of a history: they know what clients asked, were told, and saw, and nothing else.

So they judge a simulated cluster and a real one alike. The rules, for each key:

    lost            an acknowledged put is in the last read, or in the past of what is
    unread          after each acknowledged put somebody has read the key: else it was not judged
    resurrection    nothing in the last read is in the past of an acknowledged write
    phantom         a read finds only what was asked to be written, and not refused, before its end
    false sibling   no read finds two writes of which one was made in knowledge of the other
    duplicate       no read finds one write twice
    overlap         a strict read of R owners finds what a strict write to W owners had finished
                    before, if R + W > N
    session         a read with a session token finds what the token stands for
    ended           no read finds a put that had surely ended before the read began

"Past" is what writers had seen (``known.py``). A delete leaves nothing to be found, so it counts as
found from the moment at which it may have happened; so does a put from the moment at which it may
have ended: it is hidden then, and so is what it superseded. ``Allowed`` says which writes a rule
must spare: what a simulator knows exactly, and a real run can only assume.

Costs: each key is judged by itself, in one walk through its moments: 5 to 6 microseconds for each
operation, whatever the key's length, as long as its writers know most of what was written before
(bench/micro/history_check.py).
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from everwrite.sim.history import Operation
from everwrite.sim.known import NOTHING, Known, knows, lacking, union, with_place

LIST_MAX = 5
"""Violations of one rule and key that are put into words."""

BEGUN_WRITE, ENDED_LIFE, BEGUN_STRICT_READ, ENDED_READ, ENDED_STRICT_WRITE = range(5)
"""What happens at a moment. Of two at one moment the smaller comes first: a write that begins when
a read ends may be found by it, and one that ends when a strict read begins need not be."""

CLOCK_ERROR_US = 2_000_000
"""How far two clocks of a real cluster may be apart: twice what a node calls far."""

NEVER_US = 1 << 62
"""When a put ends that has no end."""

Ends = tuple[int, int]
"""(when a put may be hidden for the first time, when it may be found for the last time)."""


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
    ends: dict[str, Ends] = msgspec.field(default_factory=dict)
    """Puts that end, and when."""


def assumed(history: Iterable[Operation]) -> Allowed:
    """Return what a history without a simulator's knowledge has to spare."""
    history = list(history)
    return Allowed(
        lingering={each.id for each in history if each.may_stand_twice},
        ends=_assumed_ends(history),
    )


def _assumed_ends(history: Sequence[Operation]) -> dict[str, Ends]:
    """Return when puts may end, as far as clients can know: each touch of a key may have found all
    that was put to it before the touch was over.
    """
    ends: dict[str, Ends] = {}
    touches: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for each in history:
        if each.kind == "touch" and each.ttl_ms and each.outcome != "fail":
            touches[each.key].append((_over(each), _latest(each)))
    for each in history:
        if each.kind == "put" and each.ttl_ms:
            latest = _latest(each)
            for over, until in touches.get(each.key, ()):
                if over >= each.invoked:
                    latest = max(latest, until)
            ends[each.id] = each.invoked + each.ttl_ms * 1000 - CLOCK_ERROR_US, latest
    return ends


def _over(operation: Operation) -> int:
    return operation.completed if operation.outcome == "ok" else NEVER_US


def _latest(operation: Operation) -> int:
    if operation.outcome != "ok":
        return NEVER_US
    return operation.completed + operation.ttl_ms * 1000 + CLOCK_ERROR_US


def check_history(history: Iterable[Operation], allowed: Allowed, replicas: int) -> list[Breach]:
    """Return all breaches of a history in which the last reads of each key came after the heal.

    Keys are judged one by one: whoever has more operations than memory gives those of some keys at
    a time.
    """
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    breaches: list[Breach] = []
    collecting = gc.isenabled()
    gc.disable()  # millions of small tuples and no cycles: the collector would find nothing
    try:
        for name in sorted(by_key):
            breaches += _KeyJudge(name, by_key[name], allowed, replicas).judge()
    finally:
        if collecting:
            gc.enable()
    return breaches


class _KeyJudge:
    """Judges the operations of one key.

    Writes that nobody ever saw get no place, but for acknowledged puts and for those that may have
    hidden others until they ended: no rule can speak of them, and each would be a hole for ever in
    what later writers know.
    """

    def __init__(
        self, name: str, operations: Sequence[Operation], allowed: Allowed, replicas: int
    ) -> None:
        self.name = name
        self.operations = operations
        self.allowed = allowed
        self.replicas = replicas
        self.breaches: list[Breach] = []
        self.place: dict[str, int] = {}
        self.writes: list[Operation] = []
        self.past: list[Known] = []
        self.cover: list[Known] = []
        """For each write its past and itself."""
        self.mentioned: dict[str, int] = {}
        """Id -> the last moment at which somebody found it, or wrote in knowledge of it."""
        self.forgotten = 0
        """Nobody will mention the writes below this place any more."""
        self.deletes = NOTHING
        """What has become invisible by now, as far as that may be, by deletes and by ends."""
        self.acknowledged: list[tuple[int, Known]] = []
        """When each write ended, and its past; but those that may be lost."""
        self.finished: dict[tuple[int, int], Known] = {}
        """(n, w) -> what strict writes to w of n owners have finished by now."""
        self.due: dict[int, list[tuple[int, Known]]] = {}
        """Strict read that is under way -> what it must find: (w, writes)."""

    def judge(self) -> list[Breach]:
        operations = self.operations
        mentioned, ends = self.mentioned, self.allowed.ends
        moments: list[tuple[int, int, int]] = []
        last, last_at, ended = -1, -1, None
        for number, each in enumerate(operations):
            for name in each.seen:
                if mentioned.get(name, -1) < each.invoked:
                    mentioned[name] = each.invoked
            if each.is_write:
                moments.append((each.invoked, BEGUN_WRITE, number))
                if each.strict and each.outcome == "ok" and each.kind == "put":
                    moments.append((each.completed, ENDED_STRICT_WRITE, number))
                if ends and each.id in ends:
                    moments.append((max(ends[each.id][0], each.invoked), ENDED_LIFE, number))
            elif each.outcome == "ok" and each.is_read:
                ended_at = each.completed
                for name in each.found + each.hidden if each.hidden else each.found:
                    if mentioned.get(name, -1) < ended_at:
                        mentioned[name] = ended_at
                moments.append((each.completed, ENDED_READ, number))
                if each.strict:
                    moments.append((each.invoked, BEGUN_STRICT_READ, number))
                if each.completed > last_at:
                    last, last_at = number, each.completed
        moments.sort()
        for _, what, number in moments:
            if what == ENDED_READ:
                covered = self._read(operations[number], number)
                if number == last:
                    ended = covered
            elif what == BEGUN_WRITE:
                self._write(operations[number])
            elif what == ENDED_LIFE:
                self._hide(operations[number])
            elif what == BEGUN_STRICT_READ:
                self._begin_strict_read(operations[number], number)
            else:
                self._end_strict_write(operations[number])
        self._check_read(operations[last].invoked if last >= 0 else -1)
        if ended is not None:
            self._check_end(operations[last], ended)
        return self.breaches

    def _breach(self, rule: str, sentence: str) -> None:
        if sum(breach.rule == rule for breach in self.breaches) < LIST_MAX:
            self.breaches.append(Breach(rule, sentence))

    def _names(self, places: Iterable[int]) -> str:
        return " ".join(self.writes[place].id for place in places) or "nothing"

    # -- writes ------------------------------------------------------------------------------------

    def _write(self, write: Operation) -> None:
        past = self._deleted(write.invoked)
        for each in write.seen:
            place = self.place.get(each)
            if place is None:
                self._breach("phantom", f"{write.describe()}: it had seen {each} too early")
            else:
                past = union(past, self.cover[place])
        name, acknowledged = write.id, write.outcome == "ok"
        cover = past
        hides = name in self.allowed.ends and self._may_have_happened(write)
        if name in self.mentioned or (acknowledged and write.kind == "put") or hides:
            place = len(self.writes)
            self.place[name] = place
            self.writes.append(write)
            self.past.append(past)
            cover = with_place(past, place)
            self.cover.append(cover)
        if acknowledged and name not in self.allowed.lost:
            self.acknowledged.append((write.completed, past))
        if write.kind == "delete" and self._may_have_happened(write):
            self.deletes = union(self.deletes, cover)

    def _may_have_happened(self, write: Operation) -> bool:
        executed = self.allowed.executed
        return write.outcome != "fail" and (executed is None or write.id in executed)

    def _hide(self, write: Operation) -> None:
        """A put may have ended: no read need find it, nor what it superseded."""
        place = self.place.get(write.id)
        if place is not None and self._may_have_happened(write):
            self.deletes = union(self.deletes, self.cover[place])

    def _deleted(self, now: int) -> Known:
        """Return the writes that deletes have made invisible, and that nobody mentions from now on.

        No rule can tell whether a later writer knew them. So it is said that each did: else they
        would be holes for ever in what later writers know, since nobody finds the delete.
        """
        place, writes, mentioned = self.forgotten, self.writes, self.mentioned
        while place < len(writes) and mentioned.get(writes[place].id, -1) < now:
            place += 1
        self.forgotten = place
        return min(place, self.deletes[0]), 0

    # -- reads -------------------------------------------------------------------------------------

    def _read(self, read: Operation, number: int) -> Known | None:
        """Judge a read; return all that it knows of, None if it found what cannot be."""
        found = self._found(read)
        if found is None:
            return None
        if self.allowed.ends:
            self._check_ends(read)
        if len(found) == 1:
            covered = self.cover[found[0]]
        else:
            covered = NOTHING
            for place in found:
                covered = union(covered, self.cover[place])
            if len(found) > 1:
                self._check_siblings(read, found)
        if not read.seen and not read.strict and not read.hidden:
            return union(covered, self.deletes) if self.deletes is not NOTHING else covered
        covered = union(covered, self.deletes)
        for name in read.hidden:
            if (place := self.place.get(name, -1)) >= 0:
                covered = union(covered, self.cover[place])
        if read.seen:
            self._check_session(read, covered)
        if read.strict:
            self._check_overlap(read, covered, number)
        return covered

    def _found(self, read: Operation) -> list[int] | None:
        """Return the places of what a read found; None after a phantom."""
        found = []
        for each in read.found:
            place = self.place.get(each)
            if place is None:
                self._breach("phantom", f"{read.describe()}: {each} was not written by then")
                return None
            write = self.writes[place]
            if write.outcome == "fail":
                self._breach(
                    "phantom", f"{read.describe()}: {each} was refused: {write.describe()}"
                )
                return None
            found.append(place)
        return found

    def _check_ends(self, read: Operation) -> None:
        for each in read.found:
            _, latest = self.allowed.ends.get(each, (0, NEVER_US))
            if latest < read.invoked:
                self._breach(
                    "ended",
                    f"{read.describe()}: {each} had ended at {latest / 1e6:.3f} s at the latest",
                )

    def _check_siblings(self, read: Operation, found: list[int]) -> None:
        if len(set(found)) < len(found):
            self._breach("duplicate", f"{read.describe()}: it found one write twice")
        past, lingering = self.past, self.allowed.lingering
        false = [
            place
            for place in found
            if any(knows(past[other], place) for other in found)
            and self.writes[place].id not in lingering
        ]
        if false:
            self._breach(
                "false sibling",
                f"{read.describe()}: it found {self._names(false)} beside a write that was made in "
                "knowledge of it",
            )

    def _check_session(self, read: Operation, covered: Known) -> None:
        missing = [
            place
            for each in read.seen
            if (place := self.place.get(each, -1)) >= 0
            and not knows(covered, place)
            and each not in self.allowed.lost
        ]
        if missing:
            self._breach(
                "session", f"{read.describe()}: its session had seen {self._names(missing)}"
            )

    # -- quorums that overlap ----------------------------------------------------------------------

    def _end_strict_write(self, write: Operation) -> None:
        place = self.place[write.id]
        if write.id not in self.allowed.stale:
            quorum = write.n or self.replicas, write.q
            done = self.finished.get(quorum, NOTHING)
            self.finished[quorum] = union(done, self.cover[place])

    def _begin_strict_read(self, read: Operation, number: int) -> None:
        n = read.n or self.replicas
        self.due[number] = [
            (w, done) for (m, w), done in self.finished.items() if m == n and w + read.q > n
        ]

    def _check_overlap(self, read: Operation, covered: Known, number: int) -> None:
        for _, done in self.due.pop(number):
            for place in lacking(covered, done, len(self.writes)):
                write = self.writes[place]
                if self._must_overlap(write, read):
                    self._breach(
                        "overlap",
                        f"{read.describe()}: it read {read.q} of {read.n or self.replicas} owners "
                        f"and missed {write.describe()}",
                    )

    def _must_overlap(self, write: Operation, read: Operation) -> bool:
        """Say whether a strict read must find this very write, not only what knew of it."""
        n = read.n or self.replicas
        return (
            write.outcome == "ok"
            and write.kind == "put"
            and write.strict
            and write.completed < read.invoked
            and (write.n or self.replicas) == n
            and write.q + read.q > n
            and write.id not in self.allowed.stale
        )

    # -- the end -----------------------------------------------------------------------------------

    def _check_read(self, began: int) -> None:
        """A put that ended after the last read had begun is judged by nothing: say so."""
        for write in self.writes:
            if (
                write.kind == "put"
                and write.outcome == "ok"
                and write.completed > began
                and write.id not in self.allowed.lost
            ):
                self._breach(
                    "unread",
                    f"{write.describe()}: acknowledged, and {self.name} was never read after",
                )

    def _check_end(self, last: Operation, covered: Known) -> None:
        """Judge the last read of the key by what had ended before it began."""
        writes, found = self.writes, [self.place[each] for each in last.found]
        for place in range(covered[0], len(writes)):
            write = writes[place]
            if (
                write.kind == "put"
                and write.outcome == "ok"
                and write.completed <= last.invoked
                and not knows(covered, place)
                and write.id not in self.allowed.lost
            ):
                self._breach(
                    "lost",
                    f"{write.describe()}: acknowledged, and in the end not found, nor anything "
                    f"written in knowledge of it; found {self._names(found)}",
                )
        superseded = NOTHING
        for ended, past in self.acknowledged:
            if ended <= last.invoked:
                superseded = union(superseded, past)
        back = [
            place
            for place in found
            if knows(superseded, place) and writes[place].id not in self.allowed.lingering
        ]
        if back:
            self._breach(
                "resurrection",
                f"{self._names(back)} on {self.name} is found in the end, though an "
                "acknowledged write superseded it",
            )
