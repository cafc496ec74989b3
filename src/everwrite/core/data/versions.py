"""Dotted version vectors: what one key holds, and how two replicas' knowledge of it becomes one.

A record is a *clock* (every dot known about the key) and the *siblings* (the versions that nothing
supersedes). A dot that is in the clock but on no sibling was superseded. That one sentence is the
whole theory:

    merge(a, b).clock    = entry-wise maximum
    merge(a, b).siblings = those in both, and those of either that the other's clock does not cover
    put(record, seen)    = drop the siblings that the writer had seen, add one with a fresh dot
    write(record, seen)  = the same, with several: pieces of a data type (core/types)

Records travel and are stored whole, so a clock never claims a dot whose fate it does not know.
Merge is commutative, associative and idempotent, and ``encode`` is canonical: equal records are
equal bytes.

A version may have an end, after which nobody is shown it. That changes while its dot stands: a
touch raises the end, and once it has passed ``retire`` takes the value away. Of two copies of one
dot the one with the later end wins, and of one end the one without a value: a chain, from "never
heard of it" to "superseded", so that merge keeps its laws (docs/design/expiry.md). A counter's
increment takes in others of its minter, and is later then (docs/design/types.md): of equal ends the
later one wins.

An actor is (node_id, epoch): see ``epochs.py`` for why a dot is never minted twice.

Costs: a clock entry takes about 20 bytes; a put and a merge are linear in siblings and entries.
Source: Dynamo 4.4; Almeida et al. 2014 (DVVSet). Differs: actors carry epochs (riak_kv issue 679).
"""

from __future__ import annotations

import operator

import msgspec
from msgspec.structs import replace

from everwrite.core.data.labels import KIND_PIECE, Kind, base_of
from everwrite.core.errors import ProtocolError, check
from everwrite.core.probes import sometimes

Actor = bytes
"""node_id (8 bytes) then epoch (8 bytes, big endian): one minter in one life of one key."""

Clock = dict[Actor, int]
"""For each actor the highest counter known; actor a has minted exactly 1..clock[a]."""

Dot = tuple[Actor, int]
"""(actor, counter): one write, for ever."""

ACTOR_BYTES = 16

END_MAX_MS = 1 << 48
"""No version ends, or is of, after the year 10889: the disk lists ends by six bytes."""


class Version(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One write, for ever: its dot, its value, and what the coordinator knew when it minted it.

    ``value`` is None for a tombstone. ``time_ms`` is the coordinator's wall clock, for people to
    look at: no ordering depends on it. ``op`` is the client's request id, the same for every retry
    of one put (empty: none). ``kind`` says what the bytes are to the application: a number for
    bytes, text or JSON, or a label that says more (``labels.py``); no node looks at it.

    ``expires`` is when it ends by the cluster's clock, in milliseconds since 1970 (0: never); what
    has no end never gets one. ``pure``: it has an end and supersedes nothing, so no tombstone need
    stand in its place: whatever copy may come of it has an end too.
    """

    actor: Actor
    counter: int
    value: bytes | None
    time_ms: int
    op: bytes
    kind: Kind = 0
    expires: int = 0
    pure: bool = False


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that one replica knows of one key.

    Invariant: the clock's entries are in the order of their actors, siblings in the order of their
    dots, and the clock covers each sibling: so equal knowledge is equal bytes. ``EMPTY`` is "never
    heard of it".
    """

    clock: Clock
    siblings: list[Version]


EMPTY = Record({}, [])


class Seen(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a writer had seen of a key: all dots under ``clock``, and single ``dots`` besides.

    A read sees everything, so a clock says it. A put without a full context sees only what it
    wrote: where its actor minted other siblings before, no clock can name that one write without
    claiming the others, so a dot does.
    """

    clock: Clock
    dots: list[Dot]
    ends: int = 0
    """From when on nobody may know any of it any more, since all of it is ``pure``; 0: never."""


NOTHING = Seen({}, [])

ENDED_MAX = 8
"""Siblings that have ended which stand side by side; the next put supersedes them, and leaves a
tombstone."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record: equal records give equal bytes on every node."""
    return _encoder.encode(record)


def decode(data: bytes) -> Record:
    """Return the record in these bytes; ProtocolError if they are none.

    The input is trusted: it comes from a checked disk or a peer. ``validate`` is for the others.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(f"These {len(data)} bytes are not a record: {error}.") from error


def validate(record: Record) -> Record:
    """Return a record from outside this process; ProtocolError if its invariant is broken."""
    clock = record.clock
    last_actor = b""
    for actor, counter in clock.items():
        if actor <= last_actor:
            raise ProtocolError("The record's clock is not in canonical order.")
        if len(actor) != ACTOR_BYTES or counter < 1:
            raise ProtocolError("The record's clock has an entry that no node can have minted.")
        last_actor = actor
    last = (b"", 0)
    for version in record.siblings:
        dot = (version.actor, version.counter)
        if version.counter < 1 or version.counter > clock.get(version.actor, 0) or dot <= last:
            raise ProtocolError("The record's siblings are unsorted or not covered by its clock.")
        if not 0 <= version.expires < END_MAX_MS or (version.pure and not version.expires):
            raise ProtocolError("The record has a version whose end cannot be.")
        if not 0 <= version.time_ms < END_MAX_MS:
            raise ProtocolError("The record has a version whose time cannot be.")
        last = dot
    return record


def covers(clock: Clock, actor: Actor, counter: int) -> bool:
    """Say whether the clock knows this dot."""
    return counter <= clock.get(actor, 0)


def descends(mine: Clock, theirs: Clock) -> bool:
    """Say whether ``mine`` knows every dot that ``theirs`` knows."""
    # A loop, since all() over a generator takes 1.8 times as long and every merge comes here twice.
    for actor, counter in theirs.items():  # noqa: SIM110
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


def _dot(version: Version) -> Dot:
    return version.actor, version.counter


def merge(mine: Record, theirs: Record) -> Record:
    """Return what a node knows that knows both: syntactic reconciliation (Dynamo 4.4).

    Where one record already is the answer, it is that very object.
    """
    if descends(mine.clock, theirs.clock):
        merged = _without(mine, theirs)
        if merged is mine or not descends(theirs.clock, mine.clock):
            return merged
        return theirs if merged == theirs else merged
    if descends(theirs.clock, mine.clock):
        return _without(theirs, mine)
    siblings = _standing(mine, theirs)
    siblings += [v for v in theirs.siblings if not covers(mine.clock, v.actor, v.counter)]
    siblings.sort(key=_dot)
    return Record(join(mine.clock, theirs.clock), siblings)


def _standing(record: Record, other: Record) -> list[Version]:
    """Return the siblings of a record that the other has too or does not know."""
    clock, twins = other.clock, {_dot(version): version for version in other.siblings}
    standing: list[Version] = []
    for version in record.siblings:
        if version.counter > clock.get(version.actor, 0):
            standing.append(version)
        elif (twin := twins.get(_dot(version))) is not None:
            standing.append(twin if _outlives(twin, version) else version)
    return standing


def _outlives(one: Version, other: Version) -> bool:
    """Say which of two copies of one dot is to be kept: the one that was touched last, by what is
    left of it; of equal ends the one whose end has been carried out; and of increments of a counter
    the one that has taken in others last.
    """
    if one.expires != other.expires:
        return one.expires > other.expires
    if one.value is None or other.value is None:
        return one.value is None and other.value is not None
    return one.time_ms > other.time_ms


def _without(record: Record, other: Record) -> Record:
    """Return a record that knows every dot of the other, less what the other knows superseded, and
    with the ends that the other knows to be later.

    A clock that knows more need not know better: the record's may have learnt of a write from a
    context, and never of what that write superseded.
    """
    clock = other.clock
    for (
        version
    ) in record.siblings:  # mostly one, and news to the other: then nothing is to be built
        if version.counter <= clock.get(version.actor, 0):
            break
    else:
        return record
    siblings = record.siblings
    standing = _standing(record, other)
    if len(standing) == len(siblings) and all(map(operator.is_, standing, siblings)):
        return record
    return Record(record.clock, standing)


def merge_bytes(mine: bytes, theirs: bytes) -> bytes:
    """Return the canonical bytes of the join of two records given as theirs."""
    if mine == theirs:
        return mine
    a, b = decode(mine), decode(theirs)
    merged = merge(a, b)
    if merged is a:
        return mine
    return theirs if merged is b else encode(merged)


def put(record: Record, seen: Seen, written: Version) -> Record:
    """Return the record after one write that knew ``seen``, of one version; see ``write``."""
    return write(record, seen, [written])


def write(record: Record, seen: Seen, written: list[Version]) -> Record:
    """Return the record after one write that knew ``seen``.

    ``written`` is what it adds, one version mostly, each with its dot: the actor's next
    (``next_counter``), where the actor is this node's and its counter in the record is the highest
    that it ever minted for this key (``epochs.py`` guards that). Exactly the siblings that the
    writer had seen are dropped. The clock seen may cover dots that have not come here yet; it joins
    the record's clock, so those are superseded too wherever they are. A single dot that is not
    known here (``unknown_dots``) is not: look for it on other replicas first.
    """
    clock = join(record.clock, seen.clock) if seen.clock else dict(record.clock)
    for version in written:
        actor, counter = version.actor, version.counter
        check(
            counter == clock.get(actor, 0) + 1,
            "a dot is its actor's next, and nobody has seen it before",
            actor=actor,
            counter=counter,
        )
        clock[actor] = counter
        if counter == 1 and len(clock) > 1:
            clock = dict(sorted(clock.items()))
    siblings = record.siblings
    if siblings:
        covered, dots = seen.clock, set(seen.dots)
        siblings = [
            v
            for v in siblings
            if v.counter > covered.get(v.actor, 0) and (v.actor, v.counter) not in dots
        ]
        if siblings:
            return Record(clock, sorted([*siblings, *written], key=_dot))
    return Record(clock, written)


def values_in(siblings: list[Version]) -> int:
    """Return how many values these are to a reader: all pieces of a data type are one."""
    if len(siblings) < 2:
        return len(siblings)
    plain = plain_in(siblings)
    return plain + (plain < len(siblings))


def plain_in(siblings: list[Version]) -> int:
    """Return how many of these are no pieces of a data type."""
    return sum(version.kind != KIND_PIECE for version in siblings)


def next_counter(record: Record, actor: Actor) -> int:
    """Return the counter of the dot that this actor mints next in this record."""
    return record.clock.get(actor, 0) + 1


def unknown_dots(record: Record, seen: Seen) -> bool:
    """Say whether the writer saw a single dot that this record does not know."""
    return any(not covers(record.clock, actor, counter) for actor, counter in seen.dots)


def knows(record: Record, seen: Seen) -> bool:
    """Say whether a record knows all that a reader or writer has seen."""
    return descends(record.clock, seen.clock) and not unknown_dots(record, seen)


def seen_after(record: Record, seen: Seen, written: Version) -> Seen:
    """Return what the writer of ``written`` has seen once its put has made ``record``.

    Exactly what it had seen, and its own write: never a sibling that it has not seen, and nothing
    less, or a node that has not heard of the write would keep what it superseded. A clock says so
    where it names no other write of the actor with it. Else a dot does, and stands for all single
    dots that the write superseded: a node that does not know it looks for it before it goes on.
    Single dots that nobody could find stay named.
    """
    unfound = [dot for dot in seen.dots if not covers(record.clock, *dot)]
    if unfound:
        sometimes("a context names a dot that nobody could find")
    if len(record.siblings) == 1 and _dot(record.siblings[0]) == _dot(written):
        return Seen(record.clock, unfound, written.expires if written.pure else 0)
    actor, counter = written.actor, written.counter
    if seen.clock.get(actor, 0) < counter - 1:
        sometimes("a context has to name a single dot")
        ends = written.expires if written.pure else 0
        return Seen(seen.clock, sorted([(actor, counter), *unfound]), ends)
    clock = join(seen.clock, {actor: counter})
    dots = [dot for dot in seen.dots if not covers(clock, *dot)]
    return Seen(clock, dots, written.expires if written.pure else 0)


def live(record: Record, time_ms: int = 0) -> list[Version]:
    """Return the siblings to show at a time of day (0: whatever their ends): no tombstones, nothing
    that has ended, and one per request id.

    A put that was retried through another node may have been minted twice; both dots stay in the
    record, so that merge keeps its laws, and the reader sees the write once: until the last of its
    copies ends, so it is that one that is shown.
    """
    siblings = record.siblings
    if len(siblings) == 1:
        version = siblings[0]
        return [] if version.value is None or 0 < version.expires <= time_ms else siblings
    living = [v for v in siblings if v.value is not None and not 0 < v.expires <= time_ms]
    if len({v.op for v in living}) == len(living):  # nearly always
        return living
    shown: list[Version] = []
    places: dict[bytes, int] = {}
    for version in living:
        if version.op and version.op in places:
            sometimes("a put that was minted twice is shown once")
            place = places[version.op]
            if _ends_later(version, shown[place]):
                sometimes("of a put that was minted twice a later dot ends last")
                shown[place] = version
            continue
        places[version.op] = len(shown)
        shown.append(version)
    return shown


# -- what ends -------------------------------------------------------------------------------------


def is_pure(seen: Seen, expires: int) -> bool:
    """Say whether a put that has seen this, of a version with this end, needs no tombstone.

    That it supersedes only what ends no later is not enough. Somebody who has not heard of it may
    touch what it supersedes, and bring that once this one is forgotten.
    """
    return expires > 0 and not seen.clock and not seen.dots


def seen_by_read(record: Record) -> Seen:
    """Return what a reader of this record has seen."""
    ends = 0
    for version in record.siblings:
        if not version.pure:
            return Seen(record.clock, [])
        ends = max(ends, version.expires)
    return Seen(record.clock, [], ends)


def as_good_as_gone(record: Record, seen: Seen, time_ms: int) -> bool:
    """Say whether a reader is to be told that it has seen nothing, since all of ``seen`` has ended:
    a put after it is pure then. Not where many have ended: they are purged minutes later only, so
    a key that is written again and again would come to have too many siblings.
    """
    return 0 < seen.ends <= time_ms and len(record.siblings) < ENDED_MAX


def has_end(record: Record) -> bool:
    """Say whether anything in a record ends, or has ended."""
    for version in record.siblings:  # noqa: SIM110 - a third of the time of any(), in every read
        if version.expires:
            return True
    return False


def _ends_later(one: Version, other: Version) -> bool:
    return other.expires > 0 and (not one.expires or one.expires > other.expires)


def end_of(record: Record, written: Version) -> int:
    """Return from when on nobody is shown what a put wrote, as far as this record knows; 0: never.

    That is not always the end of ``written``: where the put was minted twice, another copy of it
    may end later, and this one may have ended already.
    """
    copies = [version for version in record.siblings if version.op == written.op]
    return last_end(copies) if written.op and copies else written.expires


def last_end(shown: list[Version]) -> int:
    """Return from when on none of these is shown; 0: never."""
    ends = [version.expires for version in shown]
    return max(ends, default=0) if all(ends) else 0


def touch(record: Record, expires: int, time_ms: int) -> Record:
    """Return the record with its live siblings' ends raised to this time, where they have one; the
    very same record if there is nothing to raise.
    """
    siblings = [
        replace(version, expires=expires)
        if version.value is not None and time_ms < version.expires < expires
        else version
        for version in record.siblings
    ]
    if all(map(operator.is_, siblings, record.siblings)):
        return record
    return Record(record.clock, siblings)


def retire(record: Record, horizon: int) -> Record | None:
    """Return the record as it is at a horizon: what ended before it has no value any more. None:
    nothing is left of it, and nothing that anybody may bring of it lives any more.

    Equal records have equal forms at equal horizons, whenever and wherever they are made. A
    sibling that has ended stays, without its value, beside what lives longer: a touch that has not
    come yet may still raise it.
    """
    end = next_end(record)
    if not 0 < end < horizon:
        return record
    siblings = record.siblings
    if all(version.pure and version.expires < horizon for version in siblings):
        return None
    retired = [
        replace(version, value=None, kind=base_of(version.kind))
        if version.value is not None and 0 < version.expires < horizon
        else version
        for version in siblings
    ]
    return Record(record.clock, retired)


def next_end(record: Record) -> int:
    """Return the end at which ``retire`` will next change the record; 0: at none.

    That is the first end of a value; and, where all is pure, the last end, at which it goes.
    """
    siblings = record.siblings
    if len(siblings) == 1:  # nearly always
        version = siblings[0]
        return version.expires if version.pure or version.value is not None else 0
    ends = [version.expires for version in siblings if version.value is not None]
    if siblings and all(version.pure for version in siblings):
        ends.append(max(version.expires for version in siblings))
    return min((end for end in ends if end), default=0)


def is_tombstone(record: Record) -> bool:
    """Say whether nothing is left but versions without a value, and it will not go by itself."""
    for version in record.siblings:
        if version.value is not None:
            return False
    return not all(version.pure for version in record.siblings)
