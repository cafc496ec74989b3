"""Dotted version vectors: what one key holds, and how two replicas' knowledge of it becomes one.

A record is a *clock* (every dot known about the key) and the *siblings* (the versions that nothing supersedes).
A dot that is in the clock but on no sibling was superseded. That one sentence is the whole theory:

    merge(a, b).clock    = entry-wise maximum
    merge(a, b).siblings = those in both, and those of either that the other's clock does not cover
    put(record, context) = drop the siblings that the context covers, add one with a fresh dot

Records travel and are stored whole, so a clock never claims a dot whose fate it does not know. Merge is
commutative, associative and idempotent, and ``encode`` is canonical: equal records are equal bytes.

An actor is (node_id, epoch): see ``epochs.py`` for why a dot is never minted twice.

Costs: a clock entry is about 20 bytes on disk; a put and a merge are linear in siblings and entries.
Source: Dynamo 4.4; Almeida et al. 2014 (DVVSet). Differs: actors carry epochs (riak_kv issue 679).
"""

from __future__ import annotations

import msgspec

from everwrite.core.errors import ProtocolError, check

Actor = bytes
"""node_id (8 bytes) then epoch (8 bytes, big endian): one minter in one life of one key."""

Clock = dict[Actor, int]
"""For each actor the highest counter known; actor a has minted exactly 1..clock[a]."""

ACTOR_BYTES = 16


class Version(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One write, for ever: its dot, its value, and what the coordinator knew when it minted it.

    ``value`` is None for a tombstone. ``time_ms`` is the coordinator's wall clock, for people to look at: no
    ordering depends on it. ``op`` is the client's request id, the same for every retry of one put (empty: none).
    """

    actor: Actor
    counter: int
    value: bytes | None
    time_ms: int
    op: bytes


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that one replica knows of one key.

    Invariant: the clock's entries are in the order of their actors, siblings in the order of their dots, and the
    clock covers each sibling: so equal knowledge is equal bytes. ``EMPTY`` is "never heard of it".
    """

    clock: Clock
    siblings: list[Version]


EMPTY = Record({}, [])

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record: equal records give equal bytes on every node."""
    return _encoder.encode(record)


def decode(data: bytes) -> Record:
    """Return the record in these bytes; ProtocolError if they are none. Trusted input: a checked disk, a peer."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(f"These {len(data)} bytes are not a record: {error}.") from error


def validate(record: Record) -> Record:
    """Hold the invariant of a record that came from outside this process; ProtocolError if it is broken."""
    clock, last = record.clock, (b"", 0)
    if list(clock) != sorted(clock):
        raise ProtocolError("The record's clock is not in canonical order.")
    if any(len(actor) != ACTOR_BYTES or counter < 1 for actor, counter in clock.items()):
        raise ProtocolError("The record's clock has an entry that no node can have minted.")
    for version in record.siblings:
        dot = (version.actor, version.counter)
        if version.counter < 1 or version.counter > clock.get(version.actor, 0) or dot <= last:
            raise ProtocolError("The record's siblings are unsorted or not covered by its clock.")
        last = dot
    return record


def covers(clock: Clock, actor: Actor, counter: int) -> bool:
    """Say whether the clock knows this dot."""
    return counter <= clock.get(actor, 0)


def descends(mine: Clock, theirs: Clock) -> bool:
    """Say whether ``mine`` knows every dot that ``theirs`` knows."""
    for actor, counter in theirs.items():
        if mine.get(actor, 0) < counter:
            return False
    return True


def join(mine: Clock, theirs: Clock) -> Clock:
    """Return the entry-wise maximum of two clocks, in canonical order."""
    joined = dict(mine)
    for actor, counter in theirs.items():
        if joined.get(actor, 0) < counter:
            joined[actor] = counter
    return joined if len(joined) == len(mine) else dict(sorted(joined.items()))


def _dot(version: Version) -> tuple[Actor, int]:
    return version.actor, version.counter


def merge(mine: Record, theirs: Record) -> Record:
    """Return what a node knows that knows both: syntactic reconciliation (Dynamo 4.4, Almeida 2014)."""
    mine_knows_all = descends(mine.clock, theirs.clock)
    theirs_knows_all = descends(theirs.clock, mine.clock)
    if mine_knows_all and not theirs_knows_all:
        return mine
    if theirs_knows_all and not mine_knows_all:
        return theirs
    kept = {_dot(version): version for version in mine.siblings}
    other = {_dot(version): version for version in theirs.siblings}
    siblings = [
        version
        for dot, version in kept.items()
        if dot in other or not covers(theirs.clock, version.actor, version.counter)
    ]
    siblings += [
        version
        for dot, version in other.items()
        if dot not in kept and not covers(mine.clock, version.actor, version.counter)
    ]
    siblings.sort(key=_dot)
    return Record(join(mine.clock, theirs.clock), siblings)


def put(record: Record, context: Clock, actor: Actor, value: bytes | None, time_ms: int, op: bytes) -> Record:
    """Return the record after one write that knew ``context``; the new version gets the actor's next dot.

    Exactly the siblings that the context covers are dropped. The context may name dots that this replica has not
    seen yet; it joins the clock, so those are superseded too wherever they are. ``actor`` must be this node's, and
    its counter in the record must be the highest it ever minted for this key (``epochs.py`` guards that).
    """
    clock = join(record.clock, context) if context else dict(record.clock)
    counter = clock.get(actor, 0) + 1
    check(
        counter == record.clock.get(actor, 0) + 1,
        "a context covers only dots that were minted",
        actor=actor,
        counter=counter,
    )
    clock[actor] = counter
    if counter == 1 and len(clock) > 1:
        clock = dict(sorted(clock.items()))
    siblings = [
        version
        for version in record.siblings
        if version.counter > context.get(version.actor, 0)
    ]
    siblings.append(Version(actor, counter, value, time_ms, op))
    if len(siblings) > 1:
        siblings.sort(key=_dot)
    return Record(clock, siblings)


def live(record: Record) -> list[Version]:
    """Return the siblings to show: no tombstones, and one per request id.

    A put that was retried through another node may have been minted twice; both dots stay in the record, so that
    merge keeps its laws, and the reader sees the write once.
    """
    siblings = record.siblings
    if len(siblings) == 1:
        return [] if siblings[0].value is None else siblings
    shown: list[Version] = []
    ops: set[bytes] = set()
    for version in siblings:
        if version.value is None or (version.op and version.op in ops):
            continue
        ops.add(version.op)
        shown.append(version)
    return shown
