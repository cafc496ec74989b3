"""The oracle: what versions must come to, from plain causal histories, and worlds that replay it.

A causal history is a set of dots: a write's is its own dot and all that its writer had seen. Here
they are kept whole, which no store could afford, so right and wrong are one line each: a replica
shows the writes it has of which none is in the history of another. A ``World`` carries out the same
operations on records and on histories and compares them after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from everwrite.core.data import versions
from everwrite.core.data.versions import (
    EMPTY,
    NOTHING,
    Actor,
    Dot,
    Record,
    Seen,
    Version,
)

History = frozenset[Dot]

REPLICAS = 3
CLIENTS = 2


class Implementation(NamedTuple):
    """The functions under test; seeded bugs replace one of them."""

    merge: Callable[[Record, Record], Record] = versions.merge
    put: Callable[[Record, Seen, Version], Record] = versions.put
    seen_after: Callable[[Record, Seen, Version], Seen] = versions.seen_after


def actor(number: int) -> Actor:
    """Return an actor; a higher number sorts later."""
    return number.to_bytes(8, "big") + b"\0\0\0\0\0\0\0\1"


def version(writer: Actor, counter: int, value: bytes | None = b"v", op: bytes = b"") -> Version:
    return Version(writer, counter, value, 0, op)


def dots(record: Record) -> list[Dot]:
    """Return the dots of the siblings of a record, in their order."""
    return [(sibling.actor, sibling.counter) for sibling in record.siblings]


def maximal(writes: Iterable[Dot], past: dict[Dot, History]) -> set[Dot]:
    """Return the writes that are in the history of no other one."""
    writes = set(writes)
    return {dot for dot in writes if not any(dot in past[other] - {other} for other in writes)}


class Client:
    def __init__(self) -> None:
        self.seen = NOTHING
        self.known: History = frozenset()


class World:
    """A few replicas of one key, a few clients, and the history of each write."""

    def __init__(self, implementation: Implementation) -> None:
        self.do = implementation
        self.records = [EMPTY] * REPLICAS
        self.had: list[History] = [frozenset()] * REPLICAS
        self.clients = [Client() for _ in range(CLIENTS)]
        self.past: dict[Dot, History] = {}
        self.actors = list(range(REPLICAS))
        self.looked_in_vain = False

    def read(self, client: int, replicas: Sequence[int]) -> None:
        """A client reads these replicas, merged, and from now on knows all that they show."""
        record, had = EMPTY, frozenset[Dot]()
        for replica in replicas:
            record = self.do.merge(record, self.records[replica])
            had |= self.had[replica]
        self._compare(record, had)
        reader = self.clients[client]
        reader.seen = Seen(record.clock, [])
        reader.known = frozenset().union(*(self.past[dot] for dot in had))

    def put(self, client: int, replica: int, *, blind: bool) -> None:
        """A client writes through a replica with all that it has seen, or without any context."""
        writer = self.clients[client]
        seen, known = (NOTHING, frozenset[Dot]()) if blind else (writer.seen, writer.known)
        if versions.unknown_dots(self.records[replica], seen):
            for other in range(REPLICAS):
                self.sync(other, replica)
            self.looked_in_vain |= versions.unknown_dots(self.records[replica], seen)
        before = self.records[replica]
        minter = actor(self.actors[replica])
        written = version(minter, versions.next_counter(before, minter))
        record = self.do.put(before, seen, written)
        dot = (written.actor, written.counter)
        assert dot not in self.past, "a dot was minted twice"
        self.past[dot] = known | {dot}
        if not self.looked_in_vain:
            kept = [old for old in dots(before) if old not in known]
            assert dots(record) == sorted([*kept, dot]), "a put drops exactly what it has seen"
        writer.seen = self.do.seen_after(record, seen, written)
        writer.known = self.past[dot]
        self._store(replica, record, self.had[replica] | {dot})

    def sync(self, source: int, target: int) -> None:
        """A replica gets another's record."""
        record = self.do.merge(self.records[target], self.records[source])
        self._store(target, record, self.had[source] | self.had[target])

    def forget(self, replica: int) -> None:
        """A replica loses the key, and so goes on under a new actor."""
        self.records[replica], self.had[replica] = EMPTY, frozenset()
        self.actors[replica] += REPLICAS

    def _store(self, replica: int, record: Record, had: History) -> None:
        self._compare(record, had)
        self.records[replica], self.had[replica] = record, had

    def _compare(self, record: Record, had: History) -> None:
        versions.validate(record)
        due = maximal(had, self.past)
        if self.looked_in_vain:
            assert due <= set(dots(record)), "a write was lost that nobody had seen"
        else:
            assert due == set(dots(record)), "siblings are the writes that none had seen"


Step = tuple[str, int, int, bool]


def play(steps: Sequence[Step], implementation: Implementation) -> World:
    """Carry out the steps in a new world, and compare it with the histories after each."""
    world = World(implementation)
    for what, a, b, flag in steps:
        if what == "read":
            world.read(a % CLIENTS, [b % REPLICAS, (b + 1) % REPLICAS] if flag else [b % REPLICAS])
        elif what == "put":
            world.put(a % CLIENTS, b % REPLICAS, blind=flag)
        elif what == "sync":
            world.sync(a % REPLICAS, b % REPLICAS)
        else:
            world.forget(a % REPLICAS)
    return world


def steps(*, forgetful: bool = False) -> st.SearchStrategy[list[Step]]:
    """Return a strategy for what happens in a world; puts are the commonest."""
    what = ["put", "put", "put", "read", "sync", "sync", *(["forget"] if forgetful else [])]
    number = st.integers(0, 2)
    step = st.tuples(st.sampled_from(what), number, number, st.booleans())
    return st.lists(step, max_size=24)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Return any valid record of a small key, also ones that no sequence of puts would reach.

    One dot is one value everywhere, as it is in a store.
    """
    clock = draw(st.dictionaries(st.integers(0, 3), st.integers(1, 3), max_size=4))
    covered = [(number, counter) for number in clock for counter in range(1, clock[number] + 1)]
    alive = draw(st.sets(st.sampled_from(covered))) if covered else set[tuple[int, int]]()
    return Record(
        {actor(number): clock[number] for number in sorted(clock)},
        [
            version(actor(number), counter, b"%d.%d" % (number, counter))
            for number, counter in sorted(alive)
        ],
    )
