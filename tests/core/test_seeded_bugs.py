"""Seeded bugs: each wrong variant must be rejected by the very checks that the real code passes.

A check that cannot fail is worth nothing. The bugs are those that stores like this one have had.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from tests.core.cluster import laws as placing
from tests.core.data.histories import Implementation, actor, play, records, steps
from tests.core.data.laws import (
    merge_is_a_join,
    merge_keeps_what_none_superseded,
    verify_takes_only_its_own,
)
from tests.core.data.traces import (
    Node,
    amnesia_on_a_replica_and_fallback_handoff,
    amnesia_on_the_coordinator,
    doomstone,
    restart_after_a_lost_write,
    same_actor_twins,
)

from everwrite.core.cluster.placement import Candidate, Placement, place
from everwrite.core.data import context, versions
from everwrite.core.data.versions import NOTHING, Record, Seen, Version
from everwrite.core.errors import BadContext, EverwriteError

T = TypeVar("T")

FAILS = (AssertionError, EverwriteError, pytest.fail.Exception)


def fails(law: Callable[[T], object], example: T) -> bool:
    try:
        law(example)
    except FAILS:
        return True
    return False


def is_caught(
    strategy: st.SearchStrategy[T], law: Callable[[T], object], *, examples: int = 1000
) -> bool:
    """Say whether a moderate search finds an example on which the law fails; any will do."""
    effort = settings(
        max_examples=examples,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        derandomize=True,
    )
    try:
        find(strategy, partial(fails, law), settings=effort)
    except NoSuchExample:
        return False
    return True


# -- put, merge and seen_after ---------------------------------------------------------------------


def put_last_writer_wins(record: Record, seen: Seen, written: Version) -> Record:
    whole = versions.put(record, seen, written)
    return Record(whole.clock, [written])


def put_drops_nothing(record: Record, seen: Seen, written: Version) -> Record:
    whole = versions.put(record, seen, written)
    return Record(whole.clock, sorted([*record.siblings, written], key=_dot))


def put_ignores_single_dots(record: Record, seen: Seen, written: Version) -> Record:
    return versions.put(record, Seen(seen.clock, []), written)


def put_takes_a_dot_for_a_clock(record: Record, seen: Seen, written: Version) -> Record:
    return versions.put(record, Seen(versions.join(seen.clock, dict(seen.dots)), []), written)


def put_forgets_the_context_clock(record: Record, seen: Seen, written: Version) -> Record:
    whole = versions.put(record, seen, written)
    clock = {**record.clock, written.actor: written.counter}
    return Record(dict(sorted(clock.items())), whole.siblings)


def put_is_off_by_one(record: Record, seen: Seen, written: Version) -> Record:
    less = {writer: counter - 1 for writer, counter in seen.clock.items() if counter > 1}
    return versions.put(record, Seen(less, seen.dots), written)


def put_appends_unsorted(record: Record, seen: Seen, written: Version) -> Record:
    whole = versions.put(record, seen, written)
    return Record(whole.clock, [written, *(v for v in whole.siblings if v is not written)])


def merge_takes_the_larger_clock(mine: Record, theirs: Record) -> Record:
    """Riak's and everybody's first thought; wrong where a clock knows of a write by hearsay."""
    if versions.descends(mine.clock, theirs.clock):
        return mine
    if versions.descends(theirs.clock, mine.clock):
        return theirs
    return versions.merge(mine, theirs)


def merge_by_wall_clock(mine: Record, theirs: Record) -> Record:
    merged = versions.merge(mine, theirs)
    return Record(merged.clock, sorted(merged.siblings, key=lambda v: (v.time_ms, _dot(v)))[-1:])


def merge_is_a_union(mine: Record, theirs: Record) -> Record:
    both = {_dot(v): v for v in (*mine.siblings, *theirs.siblings)}
    return Record(versions.join(mine.clock, theirs.clock), [both[dot] for dot in sorted(both)])


def merge_drops_what_both_show(mine: Record, theirs: Record) -> Record:
    kept = [v for v in mine.siblings if not versions.covers(theirs.clock, *_dot(v))]
    kept += [v for v in theirs.siblings if not versions.covers(mine.clock, *_dot(v))]
    return Record(versions.join(mine.clock, theirs.clock), sorted(kept, key=_dot))


def merge_keeps_my_clock(mine: Record, theirs: Record) -> Record:
    merged = versions.merge(mine, theirs)
    clock = {**mine.clock, **{v.actor: merged.clock[v.actor] for v in merged.siblings}}
    return Record(dict(sorted(clock.items())), merged.siblings)


def merge_leaves_the_clock_unsorted(mine: Record, theirs: Record) -> Record:
    merged = versions.merge(mine, theirs)
    return Record({**mine.clock, **merged.clock}, merged.siblings)


def merge_prunes_long_clocks(mine: Record, theirs: Record) -> Record:
    """The paper's "say 10", here 2: the oldest pairs go."""
    merged = versions.merge(mine, theirs)
    needed = {v.actor for v in merged.siblings}
    while len(merged.clock) > 2 and (idle := [a for a in merged.clock if a not in needed]):
        del merged.clock[idle[0]]
    return merged


def seen_after_claims_everything(record: Record, seen: Seen, written: Version) -> Seen:
    return Seen(record.clock, [])


def seen_after_names_the_write_by_clock(record: Record, seen: Seen, written: Version) -> Seen:
    return Seen(versions.join(seen.clock, {written.actor: written.counter}), [])


def seen_after_forgets_single_dots(record: Record, seen: Seen, written: Version) -> Seen:
    right = versions.seen_after(record, seen, written)
    return Seen(right.clock, [dot for dot in right.dots if dot == _dot(written)])


def seen_after_forgets_the_write(record: Record, seen: Seen, written: Version) -> Seen:
    return seen


def _dot(version: Version) -> tuple[bytes, int]:
    return version.actor, version.counter


@pytest.mark.parametrize(
    "wrong",
    [
        Implementation(put=put_last_writer_wins),
        Implementation(put=put_drops_nothing),
        Implementation(put=put_ignores_single_dots),
        Implementation(put=put_takes_a_dot_for_a_clock),
        Implementation(put=put_forgets_the_context_clock),
        Implementation(put=put_is_off_by_one),
        Implementation(put=put_appends_unsorted),
        Implementation(merge=merge_by_wall_clock),
        Implementation(merge=merge_is_a_union),
        Implementation(merge=merge_drops_what_both_show),
        Implementation(merge=merge_keeps_my_clock),
        Implementation(merge=merge_prunes_long_clocks),
        Implementation(seen_after=seen_after_claims_everything),
        Implementation(seen_after=seen_after_names_the_write_by_clock),
        Implementation(seen_after=seen_after_forgets_single_dots),
        Implementation(seen_after=seen_after_forgets_the_write),
    ],
    ids=lambda wrong: next(f.__name__ for f in wrong if f.__module__ == __name__),
)
def test_the_histories_reject(wrong: Implementation) -> None:
    assert is_caught(steps(), lambda story: play(story, wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        merge_takes_the_larger_clock,
        merge_by_wall_clock,
        merge_is_a_union,
        merge_drops_what_both_show,
        merge_keeps_my_clock,
        merge_leaves_the_clock_unsorted,
        merge_prunes_long_clocks,
    ],
    ids=lambda wrong: wrong.__name__,
)
def test_the_laws_of_merge_reject(wrong: Callable[[Record, Record], Record]) -> None:
    def law(example: tuple[Record, Record, Record]) -> None:
        merge_is_a_join(wrong, *example)
        merge_keeps_what_none_superseded(wrong, *example[:2])

    assert is_caught(st.tuples(records(), records(), records()), law)


def test_the_searches_do_not_reject_what_is_right() -> None:
    triples = st.tuples(records(), records(), records())

    right = Implementation()
    assert not is_caught(steps(), lambda story: play(story, right), examples=200)
    assert not is_caught(triples, lambda each: merge_is_a_join(right.merge, *each), examples=200)


# -- minting ---------------------------------------------------------------------------------------


class OneActorForEver(Node):
    """As Dynamo and the first Riak had it: the node's name is the actor."""

    def put(self, value: bytes | None, seen: Seen = NOTHING) -> Seen:
        self.epochs.fresh = lambda: 1  # type: ignore[method-assign]
        self.epochs.continues = lambda own_epoch: own_epoch == 1  # type: ignore[method-assign]
        return super().put(value, seen)


class FreshOnlyWhereNothingIsFound(OneActorForEver):
    """Riak's first fix: a new epoch for a key that is not found, not for one that a peer sent."""

    def put(self, value: bytes | None, seen: Seen = NOTHING) -> Seen:
        if self.record == versions.EMPTY and self.lives:
            self.epochs = type(self.epochs)(b"life%04d" % self.lives, 0, 1)
        return super().put(value, seen)

    lives = 0

    def forget(self) -> None:
        super().forget()
        self.lives += 1


class TrustsWhatStandsOnItsDisk(Node):
    """Goes on under the epoch beside the record, whichever run leased it."""

    def put(self, value: bytes | None, seen: Seen = NOTHING) -> Seen:
        self.epochs.continues = lambda own_epoch: own_epoch > 0  # type: ignore[method-assign]
        return super().put(value, seen)


class NoSalt(Node):
    """Numbers from the lease alone: a copied disk repeats them."""

    def __init__(self, name: bytes, *, leased_from: int = 0, salt: int = 1) -> None:
        super().__init__(name, leased_from=leased_from, salt=0)


@pytest.mark.parametrize(
    ("trace", "wrong"),
    [
        (amnesia_on_the_coordinator, OneActorForEver),
        (amnesia_on_a_replica_and_fallback_handoff, OneActorForEver),
        (amnesia_on_a_replica_and_fallback_handoff, FreshOnlyWhereNothingIsFound),
        (doomstone, OneActorForEver),
        (same_actor_twins, OneActorForEver),
        (same_actor_twins, NoSalt),
        (restart_after_a_lost_write, TrustsWhatStandsOnItsDisk),
    ],
    ids=lambda part: part.__name__,
)
def test_the_kv679_traces_reject(trace: Callable[[type[Node]], None], wrong: type[Node]) -> None:
    with pytest.raises(FAILS):
        trace(wrong)


# -- contexts --------------------------------------------------------------------------------------


def verify_takes_any_key(secret: bytes, data_key: bytes, token: bytes) -> Seen:
    return context.peek(token)


def verify_takes_the_first_token_on_trust(secret: bytes, data_key: bytes, token: bytes) -> Seen:
    try:
        return context.verify(secret, data_key, token)
    except BadContext:
        size = 20 + int.from_bytes(token[:4], "big")
        if len(token) > size:
            context.verify(secret, data_key, token[:size])
        else:
            raise
        return context.peek(token)


def verify_ignores_what_it_cannot_take(secret: bytes, data_key: bytes, token: bytes) -> Seen:
    try:
        return context.verify(secret, data_key, token)
    except BadContext:
        return NOTHING


@pytest.mark.parametrize(
    "wrong",
    [
        verify_takes_any_key,
        verify_takes_the_first_token_on_trust,
        verify_ignores_what_it_cannot_take,
    ],
    ids=lambda wrong: wrong.__name__,
)
def test_the_laws_of_contexts_reject(wrong: Callable[[bytes, bytes, bytes], Seen]) -> None:
    with pytest.raises(FAILS):
        verify_takes_only_its_own(wrong, b"s" * 32, b"key", Seen({actor(1): 3}, []))


# -- placement -------------------------------------------------------------------------------------

Members = Iterable[Candidate]


def rebuilt(placement: Placement, preference: list[tuple[bytes, ...]]) -> Placement:
    return Placement(
        partitions=placement.partitions,
        replicas=placement.replicas,
        candidates=placement.candidates,
        preference=preference,
        digest=placement.digest,
        shift=placement.shift,
    )


def place_without_zones(members: Members, q: int, n: int) -> Placement:
    return place([Candidate(node.node_id, node.node_id.hex()) for node in members], q, n)


def place_without_caps(members: Members, q: int, n: int) -> Placement:
    right = place(members, q, n)
    chance = random.Random(1)
    everyone = [node.node_id for node in right.candidates]
    return rebuilt(right, [tuple(chance.sample(everyone, len(everyone))) for _ in range(q)])


def place_round_robin(members: Members, q: int, n: int) -> Placement:
    """Even and simple, and every join moves nearly everything."""
    right = place(members, q, n)
    ids = [node.node_id for node in right.candidates]
    at = [(partition * n) % len(ids) for partition in range(q)]
    return rebuilt(right, [(*ids[i:], *ids[:i]) for i in at])


def place_by_order_of_arrival(members: Members, q: int, n: int) -> Placement:
    members = list(members)
    ids = [node.node_id for node in members]
    at = [partition % len(ids) for partition in range(q)]
    return rebuilt(place(members, q, n), [(*ids[i:], *ids[:i]) for i in at])


def place_one_owner_twice(members: Members, q: int, n: int) -> Placement:
    right = place(members, q, n)
    return rebuilt(right, [(ids[0], ids[0], *ids[2:]) for ids in right.preference])


def place_ignoring_weight(members: Members, q: int, n: int) -> Placement:
    members = list(members)
    plain = place([Candidate(node.node_id, node.zone) for node in members], q, n)
    return rebuilt(place(members, q, n), plain.preference)


def moves_little(place: placing.Place, members: Sequence[Candidate], q: int, n: int) -> None:
    join, leave = placing.movement(place, [5, 6, 7], q, n)
    assert max(join, leave) <= 1.3


@pytest.mark.parametrize(
    ("law", "wrong"),
    [
        (placing.zones_are_distinct, place_without_zones),
        (placing.loads_are_balanced, place_without_caps),
        (placing.loads_are_balanced, place_ignoring_weight),
        (placing.owners_are_distinct, place_one_owner_twice),
        (placing.order_of_input_is_irrelevant, place_by_order_of_arrival),
        (moves_little, place_round_robin),
    ],
    ids=lambda part: part.__name__,
)
def test_the_laws_of_placement_reject(
    law: Callable[[placing.Place, Sequence[Candidate], int, int], None], wrong: placing.Place
) -> None:
    members = placing.nodes(8, zones=4, weights=(1, 2))

    law(place, members, 256, 3)
    with pytest.raises(AssertionError):
        law(wrong, members, 256, 3)
