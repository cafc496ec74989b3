"""The white-box judge: it sees every payload that any disk takes, and every answer that leaves.

It keeps two truths beside each other: which dot was minted for which write (from the records), and
which write was made in knowledge of which (from what clients saw, ``causality.py``). From both
follows, for every record that a node writes, what its siblings must be:

    known    the writes whose dots its clock covers
    shown    the writes of its siblings
    always   shown = frontier(known): nothing is missing, and nothing is there that another
             write of the record was made in knowledge of

So a wrong merge, a forgotten sibling or a context that claims too much is found at the first write
that shows it, not when a value is missed at the end. The exceptions stand in ``KeyLedger``.

Costs: decoding each distinct record once, and an OR for each entry of its clock.
"""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.data import context, versions
from everwrite.core.data.versions import Actor, Record, Version
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import HINT, OWN
from everwrite.sim.bounds import judge_clock, judge_siblings, siblings_max
from everwrite.sim.causality import indices
from everwrite.sim.collected import Collected
from everwrite.sim.disk import COPIES, Held, Payload, Rotten
from everwrite.sim.history import Operation
from everwrite.sim.touches import Touches
from everwrite.sim.truth import (
    End,
    KeyLedger,
    Knowledge,
    Source,
    Violation,
    held_record,
    owners_in,
    record_in,
    time_ms,
)
from everwrite.sim.typed.pieces import Asked
from everwrite.sim.typed.truth import TypedKey


class Ledger:
    """The truth about a whole cluster."""

    def __init__(self, machines: int) -> None:
        self.keys: dict[bytes, KeyLedger] = {}
        self.typed: dict[bytes, TypedKey] = {}
        """Those of them that are data types."""
        self.node_ids: list[bytes] = []
        self.now: Callable[[], int] = lambda: 0
        self.owners: Callable[[int, bytes], list[int]] = lambda index, data_key: []
        """Returns who owns a key in the eyes of a machine."""
        self.minted_twice: Callable[[KeyLedger, int, Source, Record], None] = lambda *minted: None
        """Hears of each second dot of a write: key, write, where, the record made with it."""
        self.minted: Callable[[KeyLedger, int, Source, Version], None] = lambda *minted: None
        self.unfound: Callable[[KeyLedger, int, Source, Version], None] = lambda *minted: None
        """Hear of each dot that a machine gives to a write, and of each that it gives to one of
        which it did not know all single dots.
        """
        self.collected: Collected
        """Judges what goes for good."""
        self.touches: Touches
        """Judges who lets live longer what was touched."""
        self.changing = False
        """Whether members change."""
        self.records = 0
        """Distinct records that were judged."""
        self.siblings_max = siblings_max({})
        self._keys_of: dict[Actor, bytes] = {}
        """Actor -> the one data key on which it mints."""
        self._places = range(machines)
        self._visible: dict[bytes, list[int]] = {}
        self._safe: dict[bytes, list[int]] = {}
        self.since: dict[tuple[bytes, int, int], int] = {}
        """(data key, machine, write): when it first stood on that machine."""
        self._tries: dict[tuple[int, int], tuple[KeyLedger, int]] = {}
        self._typed_tries: dict[tuple[int, int], tuple[TypedKey, Asked]] = {}

    def open_key(self, data_key: bytes, name: str) -> KeyLedger:
        """Begin to watch a key."""
        self.keys[data_key] = key = KeyLedger(data_key, name, self._time_ms)
        self._visible[data_key] = [0 for _ in self._places]
        self._safe[data_key] = [0 for _ in self._places]
        return key

    def open_typed_key(self, data_key: bytes, name: str) -> TypedKey:
        """Begin to watch a key that is a data type."""
        key = TypedKey(data_key, name, self)
        self.open_key(data_key, name)
        self.keys[data_key] = self.typed[data_key] = key
        return key

    def _time_ms(self) -> int:
        return time_ms(self.now())

    # -- what clients do ---------------------------------------------------------------------------

    def invoked(self, key: KeyLedger, operation: Operation, knowledge: Knowledge) -> int:
        """A client begins a write in this knowledge; return its place."""
        mask = knowledge.mask | knowledge.named
        place = key.causality.add(operation.id, mask, delete=operation.kind == "delete")
        key.operations.append(operation)
        key.pending |= 1 << place
        if knowledge.named:
            key.named[place] = knowledge
            key.ever_named |= knowledge.named
        return place

    def tried(self, connection: int, rid: int, key: KeyLedger, place: int) -> None:
        """A client asks a node to carry a write out."""
        self._tries[connection, rid] = key, place

    def tried_typed(self, connection: int, rid: int, key: TypedKey, asked: Asked) -> None:
        """A client asks a node to change a data type."""
        self._typed_tries[connection, rid] = key, asked

    def finished(self, key: KeyLedger, place: int, operation: Operation) -> None:
        """A client is done with a write, whatever became of it."""
        bit = 1 << place
        key.pending &= ~bit
        if operation.outcome == "ok":
            if operation.durable:
                key.hard |= bit
            else:
                key.soft |= bit
        elif operation.outcome == "fail":
            key.failed |= bit
            if self.stood(key) & bit:
                raise Violation(
                    "outcome",
                    f"{operation.describe()}: it is said not to have happened, but it has",
                )

    def stood(self, key: KeyLedger) -> int:
        """Return the writes that were on some disk at some time."""
        stood = 0
        for mask in self._visible[key.data_key]:
            stood |= mask
        return stood

    # -- what nodes answer -------------------------------------------------------------------------

    def answering(self, connection: int, message: Message) -> None:
        """A node sends this to a client: is it as good as it says?"""
        if not isinstance(message, PutReply):
            return
        if (asked := self._typed_tries.get((connection, message.rid))) is not None:
            claimed = asked[0].claimed(asked[1], message)
            if claimed is not None:
                self._judge_acks(message, asked[0], asked[1].operation, claimed)
            return
        tried = self._tries.get((connection, message.rid))
        if tried is not None:
            key, place = tried
            self._judge_acks(message, key, key.operations[place], [1 << place])

    def _judge_acks(
        self, message: PutReply, key: KeyLedger, operation: Operation, claimed: list[int]
    ) -> None:
        """Raise Violation if fewer machines had this write (all of one of these) than is said."""
        acks = message.owners if operation.strict else message.owners + message.fallbacks
        # Where members change, the default w may be that of fewer copies.
        asked = min(operation.q, message.required) if self.changing else operation.q
        if acks < asked or message.durable < min(operation.dw, asked):
            raise Violation(
                "quorum",
                f"{operation.describe()}: acknowledged with {acks} copies, {message.durable} of "
                f"them durable; asked for were w = {operation.q}, dw = {operation.dw}",
            )
        held = sum(_has(mask, claimed) for mask in self._visible[key.data_key])
        safe = sum(_has(mask, claimed) for mask in self._safe[key.data_key])
        if held < message.owners + message.fallbacks or safe < message.durable:
            raise Violation(
                "quorum",
                f"{operation.describe()}: the answer says {message.owners} owners, "
                f"{message.fallbacks} fallbacks and {message.durable} durable copies, but only "
                f"{held} machines ever held it, {safe} of them durably",
            )

    # -- what disks take (``disk.Witness``) --------------------------------------------------------

    def wrote(self, index: int, key: bytes, payload: Payload, before: Held | None) -> int:
        """Judge a payload; return what is known with it."""
        prefix = key[:1]
        if prefix not in COPIES:
            return 0
        data_key = key[1:]
        ledger = self.keys[data_key]
        had = held_record(prefix, before)
        if payload is None:
            if prefix == OWN:
                self._check_let_go(ledger, index, before)
                return 0
            self._check_struck(ledger, index, before, [], 0)
            return 0
        record = record_in(prefix, payload)
        known = self._judge(ledger, Source(index, key, had), record)
        if ledger.ends:
            self.touches.written(ledger, index, record)
        if known & ledger.collected:
            self.collected.written(ledger, index, record)
        if had and had != record and prefix == OWN:
            forgot = ledger.known_of.get(had, 0) & ~known
            if forgot and self._why_not(ledger, had):
                raise Violation(
                    "forgotten",
                    f"node {index + 1} replaces its copy of {ledger.name} by one that does not "
                    f"know of {ledger.causality.names(forgot)} any more",
                )
        if prefix == HINT and before is not None:
            self._check_struck(ledger, index, before, owners_in(payload), known)
        visible = self._visible[data_key]
        fresh = known & ~visible[index]
        if fresh:
            visible[index] |= fresh
            for place in indices(fresh):
                self.since[data_key, index, place] = self.now()
        return known

    def made(self, index: int, key: bytes, payload: Payload, before: Held | None) -> None:
        """A node has put this into the batch of its tick, where another may take its place."""
        typed = self.typed.get(key[1:])
        if typed is not None and payload is not None and key[:1] in COPIES:
            source = Source(index, key, held_record(key[:1], before))
            typed.judge(source, record_in(key[:1], payload))

    def refused(self, index: int, key: bytes, payload: Payload, before: Held | None) -> None:
        """Take note of the dots in a record that was minted, sent perhaps, and not written."""
        if payload is None or key[:1] not in COPIES:
            return
        ledger = self.keys[key[1:]]
        if key[1:] in self.typed:  # seen as it was made
            return
        record = versions.decode(record_in(key[:1], payload))
        source = Source(index, key, held_record(key[:1], before))
        for version in record.siblings:
            self._note_end(ledger, self._bind(ledger, record, version, source), version)

    def synced(self, index: int, key: bytes, known: int) -> None:
        """Take note of what is safe on this machine."""
        if known:
            self._safe[key[1:]][index] |= known

    def dropped(self, index: int, key: bytes, held: Held | None) -> None:
        """Writes that were acknowledged without a disk may go with what was lost."""
        if key[:1] in COPIES and held is not None and not isinstance(held, Rotten):
            ledger = self.keys[key[1:]]
            ledger.weakened |= ledger.known_of.get(held_record(key[:1], held), 0)

    def _check_let_go(self, key: KeyLedger, index: int, before: Held | None) -> None:
        """A copy may go only from who does not own it, when all owners have it for good."""
        owners = self.owners(index, key.data_key)
        record = held_record(OWN, before)
        if index in owners and record:  # what is damaged here its node may have whole in its cache
            if why := self._why_not(key, record):
                raise Violation(
                    "collected",
                    f"node {index + 1}, an owner, removes its copy of {key.name}, though {why}",
                )
            return
        if not record or self._may_go(key, record):
            return
        known = key.known_of.get(record, 0) & ~key.weakened & ~key.collected
        for owner in owners:
            lacks = known & ~self._safe[key.data_key][owner]
            if lacks:
                raise Violation(
                    "forgotten",
                    f"node {index + 1} removes its copy of {key.name}, and its owner node "
                    f"{owner + 1} never had {key.causality.names(lacks)} for good",
                )

    def _may_go(self, key: KeyLedger, record: bytes) -> bool:
        """Say whether nobody needs a record any more. With one of no owner, or a hint, its deletes
        are not collected: owners may have them yet.
        """
        return not self.collected.why_not(key, versions.decode(record))

    def _why_not(self, key: KeyLedger, record: bytes) -> str:
        """Return why an owner may not let go of a record; empty if it may, and then does."""
        decoded = versions.decode(record)
        why = self.collected.why_not(key, decoded)
        if not why:
            self.collected.gone(key, key.known_of.get(record, 0), decoded)
        return why

    def _check_struck(
        self, key: KeyLedger, machine: int, before: Held | None, left: list[bytes], kept: int
    ) -> None:
        """A hint may go only when its owner has what it held. One that is struck out may be
        followed by another for the same owner in the same batch, so ``kept`` counts too.
        """
        if before is None or isinstance(before, Rotten):
            return
        known = key.known_of.get(record_in(HINT, before), 0)
        held = self._safe
        owners = self.owners(machine, key.data_key)
        before_owners = set(owners_in(before))
        for owner in owners_in(before):
            index = self.node_ids.index(owner)
            turned = set(left) - ({owner} if index not in owners else before_owners)
            if owner not in left and turned:
                continue  # it goes to who owns the key now
            lacks = known & ~held[key.data_key][self.node_ids.index(owner)]
            if owner in left:
                lacks &= ~kept
            if lacks & ~key.collected and not self._may_go(key, record_in(HINT, before)):
                raise Violation(
                    "hint",
                    f"a hint for node {self.node_ids.index(owner) + 1} on {key.name} is struck "
                    f"out, but that node never had {key.causality.names(lacks)} for good",
                )

    def _judge(self, key: KeyLedger, source: Source, data: bytes) -> int:
        known = key.known_of.get(data)
        if known is not None:
            return known
        if isinstance(key, TypedKey):
            return key.judge(source, data)
        self.records += 1
        record = versions.decode(data)
        judge_siblings(key, source, record, self.siblings_max)
        shown = 0
        for version in record.siblings:
            place = self._bind(key, record, version, source)
            self._note_end(key, place, version)
            shown |= 1 << place
        judge_clock(key, record.clock, f"a record of node {source.machine + 1}")
        known = past = 0
        for actor, counter in record.clock.items():
            more, older = key.prefix(actor, counter)
            known |= more
            past |= older
        wrong = (shown ^ (known & ~past)) & ~key.doubtful
        if wrong & ~(key.lingering & shown):
            self._explain(key, source.machine, shown, known, known & ~past)
        if shown & key.failed:
            raise Violation(
                "outcome",
                f"node {source.machine + 1} holds {key.causality.names(shown & key.failed)} on "
                f"{key.name}, which was said not to have happened",
            )
        key.known_of[data] = known
        return known

    def _explain(self, key: KeyLedger, index: int, shown: int, known: int, frontier: int) -> None:
        names = key.causality.names
        missing, extra = frontier & ~shown, shown & ~frontier & ~key.lingering
        what = []
        if missing:
            what.append(f"{names(missing)} is gone, though nothing there was written knowing it")
        if extra:
            what.append(f"{names(extra)} is still there, though a later write knew it")
        raise Violation(
            "frontier",
            f"node {index + 1} writes {key.name} with siblings {names(shown)}, and its clock knows "
            f"{names(known)}: {'; '.join(what)}",
        )

    def _bind(self, key: KeyLedger, record: Record, version: Version, source: Source) -> int:
        """Return the write of a sibling; a dot stands for one write, for ever."""
        name = version.op.decode()
        place = key.causality.place.get(name)
        if place is None:
            raise Violation("phantom", f"a record of {key.name} holds {name}, which nobody wrote")
        if self._keys_of.setdefault(version.actor, key.data_key) != key.data_key:
            raise Violation(
                "dot",
                f"the actor {version.actor.hex()} mints {name} on {key.name}, and has minted on "
                f"{self.keys[self._keys_of[version.actor]].name}: an epoch is for one key",
            )
        chain = key.chains.setdefault(version.actor, [])
        while len(chain) < version.counter:
            chain.append(-1)
        bound = chain[version.counter - 1]
        if bound == place:
            return place
        if bound >= 0:
            raise Violation(
                "dot",
                f"the dot {version.actor.hex()}:{version.counter} of {key.name} stands for "
                f"{key.causality.ids[bound]} and for {name}",
            )
        chain[version.counter - 1] = place
        if place in key.named:
            self._settle_named(key, place, version, record, source)
        dots = key.dots.setdefault(place, [])
        dots.append((version.actor, version.counter))
        its_own = version.actor[:8] == self.node_ids[source.machine]
        if len(dots) > 1:
            key.lingering |= 1 << place
            if its_own:
                self.minted_twice(key, place, source, record)
        if its_own:
            _settle_unheard(key, place, record)
            self.minted(key, place, source, version)
        return place

    def _note_end(self, key: KeyLedger, place: int, version: Version) -> None:
        """A record has a write end then."""
        if not version.expires:
            return
        end = key.ends.setdefault(place, End(version.expires))
        # Of a write that was minted twice, each dot has an end of its own.
        if version.expires > end.last and not (key.lingering | key.doubtful) >> place & 1:
            self.collected.lengthened(key, place, end.last)
        end.first = min(end.first, version.expires)
        end.last = max(end.last, version.expires)

    def _settle_named(
        self, key: KeyLedger, place: int, minted: Version, record: Record, source: Source
    ) -> None:
        """A write that named single dots is minted: those that its coordinator could not find
        were not superseded.

        A dot that came to the copy in the same batch, but after the mint, still stands there,
        unless what brought it superseded it as well. Then, and where another put was minted on top
        in the same batch, nobody can say what came when.
        """
        knowledge = key.named[place]
        if place in key.dots:  # minted before, where perhaps more was known, or less
            key.doubtful |= knowledge.named
            return
        dots = context.peek(knowledge.token).dots
        had = versions.decode(source.had).clock if source.had else {}
        standing = {(version.actor, version.counter) for version in record.siblings}
        unfound = [
            dot
            for dot in dots
            if not versions.covers(record.clock, *dot)
            or (dot in standing and not versions.covers(had, *dot))
        ]
        came = {dot for dot in standing if not versions.covers(had, *dot)}
        if came - {(minted.actor, minted.counter)}:
            key.doubtful |= key.named_by(
                [
                    dot
                    for dot in dots
                    if dot not in standing
                    and versions.covers(record.clock, *dot)
                    and not versions.covers(had, *dot)
                ]
            )
        if record.clock[minted.actor] > minted.counter:
            key.lingering |= key.named_by([dot for dot in dots if not versions.covers(had, *dot)])
        if not unfound:
            return
        if any(not versions.covers(record.clock, *dot) for dot in unfound):
            self.unfound(key, place, source, minted)
        causality = key.causality
        found = key.named_by([dot for dot in dots if dot not in unfound])
        key.lingering |= key.named_by(unfound)
        past = causality.cover(knowledge.mask | found)
        causality.past[place] = past
        key.operations[place].seen = [
            causality.ids[each] for each in indices(causality.frontier(past))
        ]

    # -- the fault atlas ---------------------------------------------------------------------------

    def protected(self, key: KeyLedger) -> int:
        """Return the writes whose last copy no fault may destroy."""
        return key.hard | key.pending


def _has(mask: int, claimed: list[int]) -> bool:
    return any(mask & each == each for each in claimed)


def _settle_unheard(key: KeyLedger, place: int, minted: Record) -> None:
    """A context's clock stands for writes that superseded others, some of which were only named to
    them by single dots. A coordinator that has not heard of those cannot cover them.
    """
    past = key.ever_named & key.causality.past[place] & ~key.lingering
    for each in indices(past):
        dots = key.dots.get(each, ())
        if any(not versions.covers(minted.clock, *dot) for dot in dots):
            key.lingering |= 1 << each
