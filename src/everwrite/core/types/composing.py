"""What stands in the record of a data type: its pieces by their places, and what is shown of them.

    [(kind, value)], [mark] -> a tree of places -> Counter, Set, Register, Flag or Map

A *place* is what one path leads to. Most have pieces of one type. Where concurrent writes have put
several there, the type of the last piece by its mark (time, actor, counter) is shown as a whole. A
map's last piece is the last one anywhere below it.

A register whose bytes are an integer and a counter are one type, the number: what was written last,
and all increments that it has not superseded. So whoever sets a number and whoever adds to it at
the same time are both heard.

Costs: linear in pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from everwrite.core.data.labels import KIND_PIECE, Kind
from everwrite.core.data.versions import Version
from everwrite.core.errors import check
from everwrite.core.probes import sometimes
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.operations import AMOUNT_MAX, Name, raw_of
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
    decode,
)

MAP = 4
"""The type of a place that has places below it; no piece says so."""

TYPE_NAMES = ("register", "counter", "set", "flag", "map")

Mark = tuple[int, bytes, int]
"""(time, actor, counter): which of two writes is the later one, where neither has seen the other.
"""

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


P = TypeVar("P", Written, Added, Element, Raised)


class Held(msgspec.Struct, Generic[P], gc=False):
    """A piece where it stands, and the version that it is of, if that is at hand."""

    mark: Mark
    piece: P
    version: Version | None = None


AnyHeld = Held[Written] | Held[Added] | Held[Element] | Held[Raised]


class Place:
    """All that stands at one path, and below it."""

    __slots__ = ("counters", "elements", "fields", "flags", "registers")

    def __init__(self) -> None:
        # Nearly every place has one piece, and a hash has thousands of places: five containers for
        # each took a tenth of its change.
        self.registers: list[Held[Written]] | tuple[()] = ()
        self.counters: list[Held[Added]] | tuple[()] = ()
        self.flags: list[Held[Raised]] | tuple[()] = ()
        self.elements: dict[Name, list[Held[Element]]] = {}
        self.fields: dict[Name, Place] = {}

    def at(self, path: Sequence[Name]) -> Place | None:
        """Return the place to which a path leads from here; None: nothing stands there."""
        place: Place | None = self
        for name in path:
            if place is None:
                return None
            place = place.fields.get(name)
        return place

    def add(self, mark: Mark, piece: Piece, version: Version | None = None) -> AnyHeld:
        """Put a piece where it belongs."""
        place = self
        for name in piece.path:
            below = place.fields.get(name)
            if below is None:
                below = place.fields[name] = Place()
            place = below
        if type(piece) is Element:
            element = Held(mark, piece, version)
            place.elements.setdefault(piece.payload, []).append(element)
            return element
        if type(piece) is Added:
            added = Held(mark, piece, version)
            if place.counters:
                place.counters.append(added)
            else:
                place.counters = [added]
            return added
        if type(piece) is Written:
            written = Held(mark, piece, version)
            if place.registers:
                place.registers.append(written)
            else:
                place.registers = [written]
            return written
        assert type(piece) is Raised
        raised = Held(mark, piece, version)
        if place.flags:
            place.flags.append(raised)
        else:
            place.flags = [raised]
        return raised

    def types(self) -> list[int]:
        """Return the types of which something stands here."""
        # One by one, since each operation comes here: half the time of a comprehension.
        found: list[int] = []
        if self.registers:
            found.append(REGISTER)
        if self.counters:
            found.append(COUNTER)
        if self.elements:
            found.append(ELEMENT)
        if self.flags:
            found.append(FLAG)
        if self.fields:
            found.append(MAP)
        return found

    def is_map(self) -> bool:
        """Say whether nothing stands here but fields, or nothing at all."""
        return not (self.registers or self.counters or self.elements or self.flags)

    def of(self, number: int) -> Iterator[AnyHeld]:
        """Yield the pieces of one type here; of a map all that stand below."""
        if number == ELEMENT:
            for twins in self.elements.values():
                yield from twins
        elif number == MAP:
            for place in self.fields.values():
                yield from place.all()
        else:
            yield from (self.registers, self.counters, (), self.flags)[number]

    def clear(self, number: int) -> None:
        """Forget the pieces of one type here."""
        if number == REGISTER:
            self.registers = ()
        elif number == COUNTER:
            self.counters = ()
        elif number == ELEMENT:
            self.elements = {}
        elif number == FLAG:
            self.flags = ()
        else:
            self.fields = {}

    def all(self) -> Iterator[AnyHeld]:
        """Yield all pieces here and below."""
        for number in self.types():
            yield from self.of(number)


def shown_at(place: Place) -> tuple[int | None, bool]:
    """Return the type that is shown of a place (None: nothing is there), and whether that is a
    clash: another one stands there too.
    """
    types = place.types()
    if not types:
        return None, False
    if len(types) == 1:
        return types[0], False
    last = {number: max(held.mark for held in place.of(number)) for number in types}
    if COUNTER in last and REGISTER in last and number_of(place) is not None:
        last[COUNTER] = max(last[COUNTER], last.pop(REGISTER))
    return max(last, key=lambda number: last[number]), len(last) > 1


def last_of(registers: Sequence[Held[Written]]) -> tuple[Kind, bytes]:
    """Return what the last of these registers says."""
    return max(registers, key=lambda held: held.mark).piece.payload


def number_of(place: Place) -> int | None:
    """Return the integer that the register there is; None: there is none, or it is another text."""
    return integer_in(last_of(place.registers)[1]) if place.registers else None


def integer_in(raw: bytes) -> int | None:
    """Return the integer that these bytes say, as a counter may begin with it; None: another text.

    >>> integer_in(b"-7"), integer_in(b"07"), integer_in(b"9223372036854775808")
    (-7, None, None)
    """
    number = int(raw) if _INTEGER.fullmatch(raw) else None
    return number if number is not None and -AMOUNT_MAX - 1 <= number <= AMOUNT_MAX else None


def sum_at(place: Place) -> int:
    """Return the value of the counter there; what one request id stands for counts once."""
    total = number_of(place) or 0
    ops: set[bytes] = set()
    for held in place.counters:
        op = held.version.op if held.version is not None else b""
        if op and op in ops:
            sometimes("an increment that stands there twice counts once")
            continue
        ops.add(op)
        total += held.piece.payload
    return total


def show(place: Place) -> Composed | None:
    """Return what is shown of a place; None: nothing is there."""
    number, _ = shown_at(place)
    if number is None:
        return None
    if number == REGISTER:
        kind, value = last_of(place.registers)
        return Register(value, kind)
    if number == COUNTER:
        return Counter(sum_at(place))
    if number == ELEMENT:
        return Set(sorted(place.elements, key=raw_of))
    if number == FLAG:
        return Flag(True)
    fields: dict[Name, Composed] = {}
    for name in sorted(place.fields, key=raw_of):
        shown = show(place.fields[name])
        if shown is not None:
            fields[name] = shown
    return Map(fields)


def piece_of(kind: Kind, value: bytes) -> Piece:
    """Return the piece that a version's value is: a plain one is a register of the whole key."""
    return decode(value) if kind == KIND_PIECE else Written([], (kind, value))


def has_assigned(values: Sequence[tuple[Kind, bytes]]) -> bool:
    """Say whether a change has assigned a register to the whole key, and no plain put alone."""
    pieces = (decode(value) for kind, value in values if kind == KIND_PIECE)
    return any(type(piece) is Written and not piece.path for piece in pieces)


def compose(
    values: Sequence[tuple[Kind, bytes]], marks: Sequence[tuple[bytes, int, int]]
) -> Composed | None:
    """Return what is shown of a key, from the values and marks of an answer to a read (GetReply,
    asked with ``marks``); None: nothing is there.
    """
    return show(_place_of(values, marks))


def compose_all(
    values: Sequence[tuple[Kind, bytes]], marks: Sequence[tuple[bytes, int, int]]
) -> list[Composed]:
    """Return all that stands at a key, as siblings: where several types do each by itself, first
    that which ``compose`` shows, and each plain value of a put. For who is given a context that
    supersedes all of them.
    """
    place = _place_of(values, marks)
    found = _each_type(place)
    last = max((held.mark for held in place.registers), default=None)
    for (kind, value), (actor, counter, time_ms) in zip(values, marks, strict=True):
        if kind != KIND_PIECE and (time_ms, actor, counter) != last:
            found.append(Register(value, kind))  # a put beside others is never passed over
    return found


def _each_type(place: Place) -> list[Composed]:
    """Return what is shown of each type at a place by itself, of registers the last one."""
    shown, clash = shown_at(place)
    if not clash:
        one = show(place)
        return [one] if one is not None else []
    numbers = place.counters and number_of(place) is not None
    found: list[Composed] = []
    for number in sorted(place.types(), key=lambda each: each != shown):
        if number == REGISTER and numbers:
            continue  # it is within the counter
        only = Place()
        for held in place.of(number):
            only.add(held.mark, held.piece, held.version)
        if number == COUNTER and numbers:
            only.registers = place.registers
        one = show(only)
        if one is not None:
            found.append(one)
    return found


def _place_of(
    values: Sequence[tuple[Kind, bytes]], marks: Sequence[tuple[bytes, int, int]]
) -> Place:
    check(len(values) == len(marks), "a read that is composed was asked for its marks")
    place = Place()
    for (kind, value), (actor, counter, time_ms) in zip(values, marks, strict=True):
        place.add((time_ms, actor, counter), piece_of(kind, value))
    return place
