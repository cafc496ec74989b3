"""How a data type is changed: what its coordinator makes of a list of operations.

    record, operations -> superseded: single dots      new pieces, each under a fresh dot
                       -> versions.write(record, superseded, pieces)

Everything is decided by what the coordinator knows, and only what it knows is superseded: so an add
that a remove has not seen stands, and a remove is exact. One put is all or nothing. It comes to as
few pieces as it can: what one of its operations adds and a later one takes away never was. Which
pieces these are is decided by the operations alone, so two nodes that carry out one put mint the
same ones, under the same ids, and readers see them once (``versions.live``). The first has the
put's own id, by which a retry finds it. A put that only takes away leaves a version without a value
in their place, a tombstone, until the next change or put supersedes it.

A counter's increments are folded by the node that minted them (``_fold``), see
docs/design/types.md for why none is counted twice, or lost.

Costs: linear in the record's pieces and the operations. Source: Shapiro et al. 2011 (OR-set, PN
counter); Riak's riak_dt. Differs: one clock for all that stands under a key.
"""

from __future__ import annotations

from collections.abc import Container
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

from msgspec.structs import replace

from everwrite.core.data import versions
from everwrite.core.data.labels import KIND_PIECE, Kind
from everwrite.core.data.versions import ENDED_MAX, Actor, Record, Seen, Version
from everwrite.core.errors import RequestError, TooLarge, WrongType
from everwrite.core.probes import sometimes
from everwrite.core.types.beginning import Begun, begin
from everwrite.core.types.beside import plain_beside
from everwrite.core.types.composing import (
    MAP,
    TYPE_NAMES,
    AnyHeld,
    Held,
    Place,
    number_of,
    piece_of,
    shown_at,
    sum_at,
)
from everwrite.core.types.operations import (
    AMOUNT_MAX,
    Add,
    Assign,
    Disable,
    Enable,
    Exclude,
    Include,
    Name,
    Operation,
    raw_of,
)
from everwrite.core.types.pieces import (
    COUNTER,
    ELEMENT,
    FLAG,
    REGISTER,
    Added,
    Element,
    Piece,
    Raised,
    Written,
    encode,
)

FOLD_OVER = 8
"""Increments of one coordinator that stand apart; older ones are folded."""

APART_MAX = 64
"""Older ones that stand apart as well, since another node may have made them too, and a retry is
known by its increment (core/unsettled.py). Where more are in doubt the oldest are folded."""

_OP_BYTES = 16


class Writer(NamedTuple):
    """Who carries out a change, and when."""

    actor: Actor
    op: bytes
    time_ms: int
    """The time of day."""
    ttl_ms: int = 0
    pieces_max: int = 1 << 14
    fold_over: int = FOLD_OVER
    unsettled: Container[bytes] = frozenset()
    """Ids of increments that are not to be folded yet."""


class Changed(NamedTuple):
    """What a change comes to."""

    record: Record
    """The very record before if there was nothing to do."""
    written: list[Version]
    results: list[int]
    clashes: int
    """How many places it met at which several types stood."""
    increments: list[bytes]
    """The ids of its increments."""
    earlier: Version | None = None
    """A piece of an earlier try, whose first one was taken away since: so nothing is written."""


def later_than(record: Record, time_ms: int) -> int:
    """Return the time of a write that has seen this record: no lower than the time of day, and over
    every time in it. So only writes of which neither has seen the other are decided by clocks.
    """
    return max([time_ms, *(version.time_ms + 1 for version in record.siblings)])


def change(record: Record, operations: list[Operation], writer: Writer) -> Changed:
    """Return what becomes of a record; WrongType, RequestError or TooLarge if it cannot be done."""
    begun = begin(record, operations, writer.time_ms)
    making = _Change(record, writer, begun)
    results = begun.results + [making.apply(each) for each in operations[len(begun.results) :]]
    return making.end(results)


def told_again(record: Record, operations: list[Operation], time_ms: int) -> list[int]:
    """Return the results for a put that was carried out already: those of the same operations now,
    as if nothing of them were new.
    """
    root = standing(record, time_ms)
    values: dict[tuple[Name, ...], int] = {}
    for operation in operations:
        path = tuple(operation.path)
        if isinstance(operation, Add) and path not in values:
            place = root.at(path)
            value = sum_at(place) if place is not None else 0
            values[path] = max(-AMOUNT_MAX - 1, min(value, AMOUNT_MAX))
    return [
        values[tuple(operation.path)] if isinstance(operation, Add) else 0
        for operation in operations
    ]


def standing(record: Record, time_ms: int) -> Place:
    """Return the tree of all that lives in a record at a time of day."""
    root = Place()
    for version in record.siblings:
        if version.value is not None and not 0 < version.expires <= time_ms:
            mark = (version.time_ms, version.actor, version.counter)
            root.add(mark, piece_of(version.kind, version.value), version)
    return root


class _Change:
    """One change in the making."""

    def __init__(self, record: Record, writer: Writer, begun: Begun) -> None:
        self._record = record
        self._writer = writer
        self._root = Place() if begun.emptied else standing(record, writer.time_ms)
        self._time_ms = later_than(record, writer.time_ms)
        self._superseded = begun.gone.copy()
        self._new = begun.held(self._time_ms, writer.actor)
        """New pieces by their turn, which is the counter in their mark."""
        self._turn = count(1 + len(begun.fields))
        self._folded: dict[int, Version] = {}
        """Own increments that have taken in others, by their counter."""
        self._by_op: dict[bytes, list[Version]] = {}
        self._sums: dict[tuple[Name, ...], tuple[Held[Added] | None, int]] = {}
        """Of the counters that the last operations have added to: what is new, and the value."""
        self._clashes = 0
        self._anew = begun.emptied
        """Whether the whole key was removed first: then its end goes with it."""

    # -- operations --------------------------------------------------------------------------------

    def apply(self, operation: Operation) -> int:
        """Carry one operation out and return its result."""
        path = operation.path
        if isinstance(operation, Add):
            return self._add(path, operation.amount)
        self._sums.clear()
        if isinstance(operation, Assign):
            return self._assign(path, (operation.kind, operation.value))
        if isinstance(operation, Include):
            return self._include(path, operation.elements)
        if isinstance(operation, Exclude):
            return self._exclude(path, operation.elements)
        if isinstance(operation, Enable):
            raised = self._take_away(path, FLAG)
            self._mint(Raised(path, None))
            return int(not raised)
        if isinstance(operation, Disable):
            return int(self._take_away(path, FLAG))
        self._anew |= not path
        return int(self._take_away(path))

    def _add(self, path: list[Name], amount: int) -> int:
        key = tuple(path)
        known = self._sums.get(key)
        if known is None:
            own, value = self._own(path)
        else:
            own, value = known
        value += amount
        minted = amount + (own.piece.payload if own is not None else 0)
        if not (_fits(value) and _fits(minted)):
            raise RequestError(
                f"The counter would come to {value}, which is more than 64 bits hold.",
                hint="Nothing was changed.",
            )
        if own is not None:
            own.piece = Added(path, minted)
        else:
            self._mint(Added(path, amount))
            own, _ = self._own(path)
        self._sums[key] = own, value
        return value

    def _own(self, path: list[Name]) -> tuple[Held[Added] | None, int]:
        """Return this put's own increment at a place, and the value of the counter there."""
        place = self._meet(path, COUNTER, REGISTER)
        if place is None:
            return None, 0
        if place.registers and number_of(place) is None:
            raise _wrong_type(path, "a text that is no integer", COUNTER)
        own = next((held for held in place.counters if held.version is None), None)
        return own, sum_at(place)

    def _include(self, path: list[Name], elements: list[Name]) -> int:
        place = self._meet(path, ELEMENT)
        fresh = 0
        for element in elements:
            twins = place.elements.pop(element, None) if place is not None else None
            fresh += not twins
            for held in twins or ():
                self._supersede(held)
            self._mint(Element(path, element))
            place = place or self._root.at(path)
        return fresh

    def _exclude(self, path: list[Name], elements: list[Name]) -> int:
        place = self._meet(path, ELEMENT)
        if place is None:
            return 0
        gone = 0
        for element in elements:
            twins = place.elements.pop(element, None)
            gone += twins is not None
            for held in twins or ():
                self._supersede(held)
        self._prune(path)
        return gone

    def _assign(self, path: list[Name], value: tuple[Kind, bytes]) -> int:
        there = self._take_away(path, REGISTER, COUNTER)
        self._mint(Written(path, value))
        return int(not there)

    def _take_away(self, path: list[Name], *fit: int) -> bool:
        """Supersede all that is at a place, which must be of one of these types (none: of any); say
        whether there was anything.
        """
        place = self._meet(path, *fit)
        if place is None:
            return False
        for number in place.types():
            self._clear(place, number)
        self._prune(path)
        return True

    # -- parts of them -----------------------------------------------------------------------------

    def _meet(self, path: list[Name], *fit: int) -> Place | None:
        """Return the place to which a path leads (None: nothing is there), once it is sure that an
        operation for these types fits there. Of a clash that is met on the way only what is shown
        stays.
        """
        place = self._root
        for depth, name in enumerate(path):
            if not place.is_map():
                self._settle(place, path[:depth], (MAP,))
            below = place.fields.get(name)
            if below is None:
                return None
            place = below
        self._settle(place, path, fit)
        return place if place.types() else None

    def _settle(self, place: Place, path: list[Name], fit: tuple[int, ...]) -> None:
        number, clash = shown_at(place)
        if number is not None and fit and number not in fit:
            beside = None if path else plain_beside(place, fit[0])
            raise beside or _wrong_type(path, f"a {TYPE_NAMES[number]}", fit[0])
        if clash:
            self._clashes += 1
            kept = {number}
            if number == COUNTER and number_of(place) is not None:
                kept.add(REGISTER)
            for other in place.types():
                if other not in kept:
                    self._clear(place, other)

    def _clear(self, place: Place, number: int) -> None:
        """Supersede all of one type at a place."""
        for held in place.of(number):
            self._supersede(held)
        place.clear(number)

    def _supersede(self, held: AnyHeld) -> None:
        if held.version is None:
            del self._new[held.mark[2]]
        else:
            self._superseded.add((held.version.actor, held.version.counter))

    def _prune(self, path: list[Name]) -> None:
        """Forget the places along a path at which nothing stands any more."""
        places = [self._root]
        for name in path:
            places.append(places[-1].fields[name])
        for depth in range(len(path), 0, -1):
            if places[depth].types():
                return
            del places[depth - 1].fields[path[depth - 1]]

    def _mint(self, piece: Piece) -> None:
        """Add a piece."""
        turn = next(self._turn)
        self._new[turn] = self._root.add((self._time_ms, self._writer.actor, turn), piece)

    # -- the end -----------------------------------------------------------------------------------

    def end(self, results: list[int]) -> Changed:
        """Return what all operations have come to."""
        record, writer = self._record, self._writer
        if not self._new and not self._superseded:
            return Changed(record, [], results, self._clashes, [])
        self._supersede_what_is_over()
        expires = self._expires()
        pieces = list(self._new.values())
        left = len(record.siblings) - len(self._superseded) + len(pieces)
        if left > writer.pieces_max and pieces:
            raise _too_many_pieces(left, writer.pieces_max)
        if not expires:
            for held in pieces:
                if held.piece.type == COUNTER:
                    self._fold(held.piece.path)
        superseded = sorted(self._superseded)
        pure = versions.is_pure(Seen({}, superseded), expires)
        values: list[tuple[bytes | None, bytes]] = [
            (encode(held.piece), _id(writer.op, index)) for index, held in enumerate(pieces)
        ]
        earlier = self._earlier({op for _, op in values[1:]})
        if earlier is not None:
            return Changed(record, [], results, self._clashes, [], earlier)
        if not values:
            values, expires, pure = [(None, writer.op)], 0, False
        first = versions.next_counter(record, writer.actor)
        written = [
            Version(writer.actor, counter, value, self._time_ms, op, KIND_PIECE, expires, pure)
            for counter, (value, op) in enumerate(values, first)
        ]
        if self._folded:
            siblings = [
                self._folded.get(version.counter, version)
                if version.actor == writer.actor
                else version
                for version in record.siblings
            ]
            record = Record(record.clock, siblings)
        after = versions.write(record, Seen({}, superseded), written)
        increments = [
            each.op
            for each, held in zip(written, pieces, strict=False)
            if type(held.piece) is Added
        ]
        return Changed(after, written, results, self._clashes, increments)

    def _earlier(self, ids: set[bytes]) -> Version | None:
        """Return what stands there under one of a put's own ids."""
        if not ids:
            return None
        return next((each for each in self._record.siblings if each.op in ids), None)

    def _expires(self) -> int:
        """Return when what is new ends: as its put says, or else with the last of what lives there,
        or a change of a session would make it immortal.
        """
        writer = self._writer
        if writer.ttl_ms:
            return writer.time_ms + writer.ttl_ms
        if self._anew:
            return 0
        return versions.last_end(versions.live(self._record, writer.time_ms))

    def _supersede_what_is_over(self) -> None:
        """Supersede tombstones, since there is something in their place now. What has ended stays
        as long as there is little of it: somebody may have given it a later end, and a write that
        supersedes nothing leaves no tombstone.
        """
        ended = []
        for version in self._record.siblings:
            if version.value is None and not version.expires:
                self._superseded.add((version.actor, version.counter))
            elif version.value is None or 0 < version.expires <= self._writer.time_ms:
                ended.append((version.actor, version.counter))
        if len(ended) > ENDED_MAX:
            self._superseded.update(ended)

    def _fold(self, path: list[Name]) -> None:
        """Let the oldest increment that this very actor minted at a place take in the next ones, if
        there are many; what has an end is left alone.

        It keeps its dot, and stands there with the later time and the larger amount, which wins in
        a merge (``versions.merge``). So whoever has removed it has removed all that it took in: a
        fold brings nothing back. The actor goes on only where it holds all that it ever minted, so
        nobody else, and no other life of this node, folds any of them.

        What may have been made a second time is left apart as long as that is in doubt: the two
        would not know each other without their id.

        Where a put was minted twice, its increments stand under one id and count once. That with
        the lowest dot is the one that stays: its minter leaves it apart as long as it sees another,
        and who has another drops it, since that one stands. So nobody supersedes a dot of others,
        which may have taken in what is not known here.
        """
        place = self._root.at(path)
        assert place is not None
        own: list[tuple[Version, int]] = []
        for held in place.counters:
            version, amount = held.version, held.piece.payload
            if version is not None and version.actor == self._writer.actor and not version.expires:
                own.append((version, amount))
        own.sort(key=lambda each: each[0].counter)
        taken: list[Version] = []
        total = 0
        older = own[: max(0, len(own) - self._writer.fold_over + 1)]
        unsettled = self._writer.unsettled
        doubted = [version.op for version, _ in older if version.op in unsettled]
        if len(doubted) > APART_MAX:
            sometimes("a counter has more increments in doubt than may stand apart")
        apart = set(doubted[-APART_MAX:])
        for version, amount in older:
            if version.op in apart:
                continue
            dot = (version.actor, version.counter)
            twins = [other for other in self._twins(version.op) if other is not version]
            if not twins:
                taken.append(version)
                total += amount
            elif any((each.actor, each.counter) < dot and not each.expires for each in twins):
                self._superseded.add(dot)
        if len(taken) < 2 or not _fits(total):
            return
        sometimes("an increment takes in later ones of its minter")
        oldest, *others = taken
        value = encode(Added(path, total))
        # It has no id any more: what it is made of is no one put.
        self._folded[oldest.counter] = replace(oldest, value=value, time_ms=self._time_ms, op=b"")
        self._superseded.update((each.actor, each.counter) for each in others)

    def _twins(self, op: bytes) -> list[Version]:
        """Return all that stands under a request id; nothing under none."""
        if not self._by_op:
            for version in self._record.siblings:
                self._by_op.setdefault(version.op, []).append(version)
        return self._by_op[op] if op else []


def _fits(number: int) -> bool:
    return -AMOUNT_MAX - 1 <= number <= AMOUNT_MAX


def _id(op: bytes, index: int) -> bytes:
    """Return the request id of a put's piece: pieces of one put must not hide each other, and those
    that a retry mints must.
    """
    if not index:
        return op
    return blake2b(index.to_bytes(4, "big") + op, digest_size=_OP_BYTES).digest()


def _wrong_type(path: list[Name], stands: str, wanted: int) -> WrongType:
    where = b"/".join(map(raw_of, path)).decode(errors="backslashreplace")
    what = f"What stands at {where!r}" if path else "What stands there"
    return WrongType(
        f"{what} is {stands}, and the operation is for a {TYPE_NAMES[wanted]}.",
        hint="Nothing was changed. Use the operations of its type, or remove it first.",
    )


def _too_many_pieces(pieces: int, most: int) -> TooLarge:
    return TooLarge(
        f"The key would have {pieces} pieces, each an element, a field or an increment; the most "
        f"is {most}.",
        hint="Nothing was changed. Use several keys.",
    )
