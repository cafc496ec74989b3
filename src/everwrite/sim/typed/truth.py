"""What is true of a key that is a data type: each piece a place of its own, by its dot.

A put of such a key supersedes what its coordinator knew, which no client can say. So it is taken
from the record in which its dots stand for the first time: what stood before, by all that was true
until then, and does not stand in it any more, is what this put has superseded. ``rules.py`` says
whether it had a right to. From then on every record is held to the same equation as those of plain
keys (``ledger.py``), and to a second one, since an increment takes in others in place:

    shown    = the pieces that its clock knows, less what those have superseded
    each     = as it was minted, or as the last fold made it whose put the clock knows

So a fold that is lost in a merge, or that comes without what it took in, is found at once, and a
dot is one write for ever but for folds by the actor that minted it.

Every write of a node is seen while it is made, not only the last one of a batch
(``Machine.soon`` and on): changes of one tick come upon each other, and what stands between them
never is on any disk.

Costs: a decoding of each record that is written, a pass over its pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from everwrite.core.data import context, versions
from everwrite.core.data.versions import Dot, Record, Version
from everwrite.core.messages.requests import PutReply
from everwrite.sim.bounds import judge_clock
from everwrite.sim.causality import indices
from everwrite.sim.history import Operation
from everwrite.sim.truth import CLOCK_ERROR_MS, KeyLedger, Source, Violation
from everwrite.sim.typed.pieces import Asked, Standing, mask_of, read
from everwrite.sim.typed.rules import judge_mint, new_pieces

if TYPE_CHECKING:
    from everwrite.sim.ledger import Ledger


class TypedKey(KeyLedger):
    """See the module."""

    def __init__(self, data_key: bytes, name: str, ledger: Ledger) -> None:
        super().__init__(data_key, name, ledger._time_ms)
        self.ledger = ledger
        self.asked: dict[str, Asked] = {}
        self.states: dict[int, list[tuple[int, Version]]] = {}
        """Piece -> (the put's first piece that made it so, how it stands since): as it was minted,
        then each fold."""
        self.knew: dict[int, int] = {}
        """Piece -> all that the coordinator knew which minted it, and minted with it."""
        self.folded = 0
        """Increments that have taken in others, or were taken in: without a request id."""
        self._place_of: dict[Dot, int] = {}

    def place_of(self, version: Version) -> int:
        """Return the place of a sibling; KeyError if it was never seen to be minted."""
        return self._place_of[version.actor, version.counter]

    # -- what clients do ---------------------------------------------------------------------------

    def invoked(self, asked: Asked) -> None:
        """A client begins a put."""
        self.asked[asked.operation.id] = asked

    def finished(self, asked: Asked) -> None:
        """A client is done with a put, whatever became of it."""
        operation, bits = asked.operation, mask_of(asked.places)
        self.pending &= ~bits
        if operation.outcome == "ok":
            if operation.durable:
                self.hard |= bits
            else:
                self.soft |= bits
        elif operation.outcome == "fail":
            self.failed |= bits
            if bits:
                raise _happened(operation)

    def sent(self, op: bytes, record: bytes) -> None:
        """A coordinator sends another machine its copy of a put."""
        asked = self.asked.get(op.decode(errors="backslashreplace"))
        if asked is not None:
            asked.sent.append(self.known(versions.decode(record).clock))

    def claimed(self, asked: Asked, reply: PutReply) -> list[int] | None:
        """Return what an answer says that so many machines know: all of one of these; None: it says
        that there is nothing.

        Its pieces, of any try. But one that only takes away may come to a node where there is
        nothing of that, after an earlier try, of which nobody there has heard, took it away
        elsewhere. It adds nothing then, its context names no piece of the put, and what was
        acknowledged is the record that its coordinator had; or that there is none.
        """
        firsts = [1 << first for first in asked.firsts]
        acks = reply.owners + reply.fallbacks
        if asked.over:
            return firsts if acks or asked.value is not None else None
        named = self.named_by(context.peek(reply.context).dots) if reply.context else 0
        if new_pieces(asked.changes) or named & mask_of(asked.firsts):
            return firsts
        if not acks:
            return None
        kept = ~self.forgettable()
        # One ack may be of a coordinator that has sent nothing: then it knew what its client did.
        return [known & kept for known in (*asked.sent, *([asked.used] if acks == 1 else ()))]

    def claims_pieces(self, asked: Asked, reply: PutReply) -> bool:
        """Say whether an answer claims that its pieces are known, of any try."""
        return self.claimed(asked, reply) == [1 << first for first in asked.firsts]

    # -- records -----------------------------------------------------------------------------------

    def judge(self, source: Source, data: bytes) -> int:
        """Judge a record that a node writes; return the pieces that it knows."""
        found = self.known_of.get(data)
        if found is not None:
            return found
        self.ledger.records += 1
        record = versions.decode(data)
        fresh = [dot for dot in _dots(record) if dot not in self._place_of]
        if fresh:
            self._minted(source, record, fresh)
        judge_clock(self, record.clock, f"a record of node {source.machine + 1}")
        known, past = self._known(record.clock)
        shown = mask_of(map(self.place_of, record.siblings))
        if shown != known & ~past:
            self._explain(source, shown, known & ~past)
        for version in record.siblings:
            place = self.place_of(version)
            self.ledger._note_end(self, place, version)
            if not _same(version, expected := self.state(place, known)):
                raise Violation(
                    "fold",
                    f"node {source.machine + 1} writes {self.name} with "
                    f"{self.causality.ids[place]} as {_words(version)}; by all that it knows it "
                    f"is {_words(expected)}",
                )
        self.known_of[data] = known
        return known

    def state(self, place: int, known: int) -> Version:
        """Return how a piece stands for whoever knows these."""
        states = self.states[place]
        for by, version in reversed(states):
            if known >> by & 1:
                return version
        return states[0][1]

    def standing(self, known: int) -> list[Standing]:
        """Return all that stands for whoever knows these, in the order of their dots."""
        mask = known & ~self.causality.pasts(known)
        pieces = [read(place, self.state(place, known)) for place in indices(mask)]
        return sorted(pieces, key=lambda each: (each.version.actor, each.version.counter))

    def surely_lives(self, version: Version) -> bool:
        """Say whether this has not ended by any clock."""
        return not version.expires or version.expires > self.time_ms() + CLOCK_ERROR_MS

    def may_live(self, version: Version) -> bool:
        """Say whether this has not ended by some clock."""
        return not version.expires or version.expires + CLOCK_ERROR_MS > self.time_ms()

    def known_by(self, token: bytes) -> int:
        """Return the pieces that whoever has this context has seen, or its coordinator had."""
        if not token:
            return 0
        seen = context.peek(token)
        mask = self._known(seen.clock)[0]
        for place in indices(self.named_by(seen.dots)):
            mask |= self.knew.get(place, 1 << place)
        return mask

    def forgettable(self) -> int:
        """Return the pieces that may be gone from everywhere, or not be shown: what went with a
        power cut, what was collected, and what may have ended.
        """
        ended = [place for place in self.ends if not self.surely_lives(self.states[place][0][1])]
        return self.weakened | self.collected | mask_of(ended)

    def _known(self, clock: versions.Clock) -> tuple[int, int]:
        known = past = 0
        for actor, counter in clock.items():
            more, older = self.prefix(actor, counter)
            known |= more
            past |= older
        return known, past

    def _explain(self, source: Source, shown: int, right: int) -> None:
        names = self.causality.names
        what = []
        if missing := right & ~shown:
            what.append(f"{names(missing)} is gone, though nothing there has superseded it")
        if extra := shown & ~right:
            what.append(f"{names(extra)} is still there, though it was superseded")
        raise Violation(
            "frontier", f"node {source.machine + 1} writes {self.name}, and {'; '.join(what)}"
        )

    # -- mints -------------------------------------------------------------------------------------

    def _minted(self, source: Source, record: Record, fresh: list[Dot]) -> None:
        """Dots stand in a record that were never seen: somebody has just minted them."""
        actor, first = fresh[0]
        who = f"node {source.machine + 1}"
        written = [each for each in record.siblings if (each.actor, each.counter) in set(fresh)]
        if {each for each, _ in fresh} != {actor} or len(written) < len(fresh):
            raise Violation("phantom", f"{who} writes {self.name} with dots that nobody minted")
        if actor[:8] != self.ledger.node_ids[source.machine]:
            raise Violation("phantom", f"{who} writes {self.name} with a dot of another node")
        if self.ledger._keys_of.setdefault(actor, self.data_key) != self.data_key:
            raise Violation("dot", f"{who} mints on {self.name} under an epoch of another key")
        if first != len(self.chains.get(actor, ())) + 1:
            raise Violation("dot", f"{who} mints the dot {first} of an actor on {self.name} again")
        op = written[0].op.decode(errors="backslashreplace")
        asked = self.asked.get(op)
        if asked is None:
            raise Violation("phantom", f"{who} writes {self.name} with {op}, which nobody asked")
        if asked.operation.outcome == "fail":
            raise _happened(asked.operation)
        before = {**record.clock, actor: first - 1}
        known, past = self._known(before)
        base = known & ~past
        old = [each for each in record.siblings if (each.actor, each.counter) in self._place_of]
        after = mask_of(map(self.place_of, old))
        if after & ~base:
            self._explain(source, after, base)
        places = self._bind(asked, written, base & ~after)
        pieces = [read(place, self.state(place, known)) for place in indices(base)]
        folds = [read(self.place_of(each), each) for each in old]
        new = [read(place, version) for place, version in zip(places, written, strict=True)]
        gone = set(indices(base & ~after))
        self.knew.update(dict.fromkeys(places, known | mask_of(places)))
        judge_mint(self, source, asked, pieces, gone, folds, new)
        lacks = asked.used & ~known & ~self.forgettable()
        if lacks and not asked.over:  # which stands beside what it could not find
            raise Violation(
                "stale change",
                f"{asked.operation.describe()}: {who} carries it out and does not know "
                f"{self.causality.names(lacks)}, which its context stands for",
            )
        place, ledger = places[0], self.ledger
        asked.firsts.append(place)
        self.dots[place] = self.dots.get(asked.firsts[0], [])
        self.dots[place].append((actor, first))
        if len(asked.firsts) > 1:
            ledger.minted_twice(self, asked.firsts[0], source, record)
        ledger.minted(self, place, source, written[0])

    def fold(self, place: int, by: int, version: Version) -> None:
        """An increment has taken in others, by the put of which this is the first piece."""
        self.states[place].append((by, version))

    def _bind(self, asked: Asked, written: list[Version], gone: int) -> list[int]:
        """Give each new piece a place; what the put has superseded is in the past of the first."""
        places = []
        for index, version in enumerate(written):
            name = f"{asked.operation.id}/{index}@{version.actor[8:].hex()}:{version.counter}"
            past = 0 if index else gone
            place = self.causality.add(name, past, delete=version.value is None)
            self.operations.append(asked.operation)
            chain = self.chains.setdefault(version.actor, [])
            chain.append(place)
            self._place_of[version.actor, version.counter] = place
            self.states[place] = [(place, version)]
            if asked.operation.outcome == "pending":
                self.pending |= 1 << place
            places.append(place)
        asked.places += places
        return places


def _dots(record: Record) -> Iterator[Dot]:
    """Yield the dots that a record knows and that may be new: those that stand there."""
    for version in record.siblings:
        yield version.actor, version.counter


def _same(version: Version, expected: Version) -> bool:
    if version.value is None and expected.value is not None:
        return expected.expires > 0  # retired
    return version == expected


def _words(version: Version) -> str:
    piece = read(0, version)
    op = version.op.decode(errors="backslashreplace")
    return f"{piece.type} {piece.path!r} {piece.payload!r} of {version.time_ms} ({op or 'no id'})"


def _happened(operation: Operation) -> Violation:
    return Violation(
        "outcome", f"{operation.describe()}: it is said not to have happened, but it has"
    )
