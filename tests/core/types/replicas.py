"""Replicas of one key of a data type, and what it must come to, from plain histories of events.

An event is one operation that was carried out: it knows which events its coordinator knew then. So
what is right is one line for each type, and needs no dots: an add counts unless a remove of it is
known that knew it. ``Replicas`` carries out the same operations on records and on events.
"""

from __future__ import annotations

from typing import NamedTuple

from everwrite.core.data import versions
from everwrite.core.data.versions import EMPTY, Record, Version
from everwrite.core.types.changing import FOLD_OVER, Changed, Writer, change
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.composing import compose
from everwrite.core.types.operations import (
    Add,
    Assign,
    Disable,
    Enable,
    Exclude,
    Include,
    Name,
    Operation,
    Remove,
    raw_of,
)

COUNT = 3


def actor(number: int) -> bytes:
    return bytes((number + 1,)) * 8 + bytes(7) + b"\1"


def shown(record: Record, time_ms: int = 0) -> Composed | None:
    """Return what a reader of a record is shown."""
    found = versions.live(record, time_ms)
    return compose(
        [(each.kind, each.value) for each in found if each.value is not None],
        [(each.actor, each.counter, each.time_ms) for each in found],
    )


class Event(NamedTuple):
    put: int
    """Which request it is part of: a retry is the same one."""
    operation: Operation
    knew: frozenset[int]
    """Other events, by their numbers."""
    mark: tuple[int, bytes, int]


class Replicas:
    """See the module."""

    def __init__(self, fold_over: int = FOLD_OVER) -> None:
        self.fold_over = fold_over
        self.records = [EMPTY] * COUNT
        self.known: list[frozenset[int]] = [frozenset()] * COUNT
        self.events: list[Event] = []
        self.puts: list[list[Operation]] = []
        self.written: list[list[tuple[int, list[Version]]]] = []
        """For each put where it was carried out, and what it came to."""

    def do(self, replica: int, operations: list[Operation], wall_ms: int) -> Changed:
        """Carry out a put through a replica."""
        self.puts.append(operations)
        self.written.append([])
        return self.carry_out(replica, len(self.puts) - 1, wall_ms)

    def carry_out(self, replica: int, put: int, wall_ms: int) -> Changed:
        """Carry out a put through a replica that knows of no earlier try."""
        writer = Writer(actor(replica), b"put%d" % put, wall_ms, fold_over=self.fold_over)
        changed = change(self.records[replica], self.puts[put], writer)
        self.records[replica] = versions.validate(changed.record)
        self.written[put].append((replica, changed.written))
        marks = {each.op: (each.time_ms, each.actor, each.counter) for each in changed.written}
        for operation in self.puts[put]:
            mark = marks.get(writer.op, (0, b"", 0))
            event = Event(put, operation, self.known[replica], mark)
            self.known[replica] |= {len(self.events)}
            self.events.append(event)
        return changed

    def sync(self, source: int, target: int) -> None:
        """A replica hears what another one knows."""
        self.records[target] = versions.validate(
            versions.merge(self.records[target], self.records[source])
        )
        self.known[target] |= self.known[source]

    # -- what is right -----------------------------------------------------------------------------

    def due(self, replica: int) -> Composed | None:
        """Return what a reader of this replica must be shown."""
        known = self.known[replica]
        standing = [
            self.events[number]
            for number in known
            if not any(
                number in self.events[other].knew
                and takes_away(self.events[other].operation, self.events[number].operation)
                for other in known
            )
        ]
        tree: dict[Name, Composed] = {}
        paths = {tuple(event.operation.path): None for event in standing}
        for path in paths:
            here = [event for event in standing if tuple(event.operation.path) == path]
            value = self._value(here)
            if value is not None:
                _put_in(tree, path, value)
        return _map_of(tree) if tree else None

    def _value(self, here: list[Event]) -> Composed | None:
        adds = {e.put: e.operation.amount for e in here if isinstance(e.operation, Add)}
        if adds:
            return Counter(sum(adds.values()))
        elements = {
            (name, event.put)
            for event in here
            if isinstance(event.operation, Include)
            for name in event.operation.elements
            if not self._excluded(event, name, here)
        }
        if elements:
            return Set(sorted({name for name, _ in elements}, key=raw_of))
        assigned = [event for event in here if isinstance(event.operation, Assign)]
        if assigned:
            last = max(assigned, key=lambda event: event.mark).operation
            assert isinstance(last, Assign)
            return Register(last.value, last.kind)
        if any(isinstance(event.operation, Enable) for event in here):
            return Flag(True)
        return None

    def _excluded(self, add: Event, name: Name, here: list[Event]) -> bool:
        number = next(n for n, event in enumerate(self.events) if event is add)
        return any(
            isinstance(other.operation, Exclude)
            and name in other.operation.elements
            and number in other.knew
            for other in here
        )


def takes_away(later: Operation, earlier: Operation) -> bool:
    """Say whether an operation takes away all of one that it knew."""
    if isinstance(later, Remove):
        if isinstance(earlier, Exclude | Disable | Remove):
            return False  # these add nothing, and what they took away is gone
        return earlier.path[: len(later.path)] == later.path
    if later.path != earlier.path:
        return False
    if isinstance(later, Assign):
        return isinstance(earlier, Assign | Add)
    return isinstance(later, Disable | Enable) and isinstance(earlier, Enable)


def _put_in(tree: dict[Name, Composed], path: tuple[Name, ...], value: Composed) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, Map({}))
        assert isinstance(below, Map)
        tree = below.fields
    tree[path[-1]] = value


def _map_of(tree: dict[Name, Composed]) -> Map:
    return Map(
        {
            name: _map_of(value.fields) if isinstance(value, Map) else value
            for name, value in sorted(tree.items(), key=lambda item: raw_of(item[0]))
        }
    )
