"""Versions that end: the laws of merge with touched and retired copies; what a horizon keeps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.data.histories import actor, records, version
from tests.core.data.laws import merge_is_a_join, merge_keeps_what_none_superseded

from everwrite.core.data import versions
from everwrite.core.data.versions import (
    EMPTY,
    NOTHING,
    Dot,
    Record,
    Seen,
    Version,
    decode,
    encode,
    is_pure,
    is_tombstone,
    live,
    merge,
    next_end,
    put,
    retire,
    touch,
    validate,
)
from everwrite.core.errors import ProtocolError

SX, SY = actor(1), actor(2)
TIMES = st.integers(1, 40)


@st.composite
def copies(draw: st.DrawFn) -> Record:
    """Return a record whose versions have ends, were touched here and there, and are retired or
    not. Whether a dot has an end at all, and is pure, is one thing everywhere.
    """
    record = draw(records())
    siblings = []
    for sibling in record.siblings:
        if (sibling.actor[7] + sibling.counter) % 3 == 0:
            siblings.append(sibling)
            continue
        pure = (sibling.actor[7] + sibling.counter) % 3 == 1
        value = sibling.value if draw(st.booleans()) else None
        siblings.append(replace(sibling, value=value, expires=draw(TIMES), pure=pure))
    return Record(record.clock, siblings)


def put_on(record: Record, node: bytes, expires: int, seen: Seen = NOTHING) -> Record:
    """Return the record after a put of a version that ends then."""
    pure = is_pure(seen, expires)
    written = version(node, versions.next_counter(record, node), b"v")
    return put(record, seen, replace(written, expires=expires, pure=pure))


def read(record: Record) -> Seen:
    return Seen(record.clock, [])


# -- merge -----------------------------------------------------------------------------------------


@given(copies(), copies(), copies())
@settings(max_examples=600, deadline=None)
def test_merge_of_touched_and_retired_copies_is_a_join(a: Record, b: Record, c: Record) -> None:
    merge_is_a_join(merge, a, b, c)


@given(copies(), copies())
@settings(max_examples=300, deadline=None)
def test_an_end_is_no_reason_to_drop_a_sibling(a: Record, b: Record) -> None:
    merge_keeps_what_none_superseded(merge, a, b)


@given(copies(), copies())
@settings(max_examples=300, deadline=None)
def test_the_join_has_the_latest_end_of_each_dot(a: Record, b: Record) -> None:
    ends: dict[Dot, int] = {}
    for each in [*a.siblings, *b.siblings]:
        dot = (each.actor, each.counter)
        ends[dot] = max(ends.get(dot, 0), each.expires)

    for each in merge(a, b).siblings:
        assert each.expires == ends[each.actor, each.counter]


@given(copies())
@settings(deadline=None)
def test_a_record_with_ends_survives_its_bytes(record: Record) -> None:
    assert validate(decode(encode(record))) == record
    assert merge(record, record) is record


def test_of_two_touches_the_later_end_wins_on_either_side() -> None:
    record = put_on(EMPTY, SX, 10)
    sooner, later = touch(record, 20, 5), touch(record, 30, 5)

    assert merge(sooner, later) == merge(later, sooner) == later
    assert merge(sooner, later) is later
    assert merge(later, sooner) is later


def test_a_touch_makes_no_sibling_and_no_new_dot() -> None:
    record = put_on(EMPTY, SX, 10)

    touched = touch(record, 20, 5)

    assert touched.clock == record.clock
    assert [(each.actor, each.counter) for each in touched.siblings] == [(SX, 1)]


def test_a_touch_never_shortens_and_gives_no_end_to_what_has_none() -> None:
    record = put_on(put_on(EMPTY, SX, 50), SY, 0)

    assert touch(record, 40, 5) is record
    assert [each.expires for each in touch(record, 60, 5).siblings] == [60, 0]


def test_a_touch_leaves_what_has_ended() -> None:
    record = put_on(EMPTY, SX, 10)

    assert touch(record, 60, 10) is record


def test_a_touched_copy_brings_its_value_back_to_one_that_was_retired_meanwhile() -> None:
    other = put_on(put_on(EMPTY, SY, 0), SX, 10)
    retired = retire(other, 11)
    assert retired is not None and len(live(retired)) == 1

    touched = touch(other, 30, 5)

    assert merge(retired, touched) == merge(touched, retired) == touched


# -- what is shown ---------------------------------------------------------------------------------


def test_a_version_is_shown_until_its_end_and_not_at_it() -> None:
    record = put_on(EMPTY, SX, 10)

    assert len(live(record, 9)) == 1
    assert live(record, 10) == []


def test_what_has_ended_is_hidden_beside_what_has_not() -> None:
    record = put_on(put_on(EMPTY, SX, 10), SY, 20)

    assert [each.expires for each in live(record, 15)] == [20]


@pytest.mark.parametrize(("expires", "pure"), [(-1, False), (0, True), (1 << 48, False)])
def test_an_end_that_cannot_be_is_refused(expires: int, pure: bool) -> None:
    written = replace(version(SX, 1), expires=expires, pure=pure)

    with pytest.raises(ProtocolError):
        validate(Record({SX: 1}, [written]))


# -- the horizon -----------------------------------------------------------------------------------


@given(copies(), TIMES, TIMES)
@settings(max_examples=600, deadline=None)
def test_a_record_at_a_horizon_is_one_thing_however_it_came_there(
    record: Record, first: int, then: int
) -> None:
    at_once = retire(record, max(first, then))
    step = retire(record, min(first, then))

    assert (None if step is None else retire(step, max(first, then))) == at_once
    if at_once is not None:
        assert retire(at_once, max(first, then)) is at_once


@given(copies(), TIMES, TIMES)
@settings(max_examples=400, deadline=None)
def test_a_horizon_changes_nothing_that_anybody_would_be_shown(
    record: Record, horizon: int, later: int
) -> None:
    at = retire(record, horizon) or EMPTY

    assert live(at, horizon + later) == live(record, horizon + later)


@given(copies(), TIMES)
@settings(max_examples=400, deadline=None)
def test_next_end_is_when_a_horizon_next_changes_a_record(record: Record, horizon: int) -> None:
    end = next_end(record)

    assert (retire(record, horizon) is not record) == (0 < end < horizon)
    changed = retire(record, horizon)
    if changed is not None and changed is not record:
        assert not 0 < next_end(changed) < horizon


@given(copies(), copies(), TIMES)
@settings(max_examples=600, deadline=None)
def test_a_join_at_a_horizon_needs_no_copy_that_is_behind_it(
    a: Record, b: Record, horizon: int
) -> None:
    """Where nothing is gone: who was retired first and then joined is who was joined first."""
    here, there = retire(a, horizon), retire(b, horizon)
    if here is None or there is None:
        return

    assert retire(merge(here, there), horizon) == retire(merge(a, b), horizon)


def test_a_pure_record_is_gone_at_its_last_end_and_leaves_no_tombstone() -> None:
    record = put_on(put_on(EMPTY, SX, 10), SY, 20)

    assert retire(record, 10) is record
    early = retire(record, 11)
    assert early is not None and [each.value for each in early.siblings] == [None, b"v"]
    assert next_end(early) == 20
    assert retire(early, 21) is None


def test_a_version_over_one_that_lives_longer_leaves_a_tombstone() -> None:
    record = put_on(EMPTY, SX, 0)
    record = put_on(record, SX, 10, read(record))

    at = retire(record, 11)

    assert at is not None and is_tombstone(at)
    assert not is_tombstone(record)


def test_a_version_that_supersedes_what_ends_sooner_leaves_a_tombstone_all_the_same() -> None:
    """Else a touch of the old one, by who never heard of the new one, would bring it back."""
    old = put_on(EMPTY, SX, 10)
    new = put_on(old, SY, 20, read(old))
    touched = touch(old, 50, 5)

    at = retire(new, 21)

    assert at is not None and is_tombstone(at)
    assert live(merge(at, touched), 30) == []


def test_a_version_whose_writer_has_seen_more_than_its_coordinator_is_not_pure() -> None:
    elsewhere = put_on(EMPTY, SY, 0)

    record = put_on(EMPTY, SX, 10, read(elsewhere))

    assert not record.siblings[0].pure


def test_a_reader_of_what_is_pure_need_not_know_it_after_its_end() -> None:
    record = put_on(put_on(EMPTY, SX, 10), SY, 20)

    assert versions.seen_by_read(record).ends == 20
    assert versions.seen_by_read(put_on(record, SY, 0)).ends == 0


# -- stories ---------------------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 2), st.sampled_from([0, 3, 8, 20])),
    st.tuples(st.just("blind"), st.integers(0, 2), st.sampled_from([0, 3, 8, 20])),
    st.tuples(st.just("touch"), st.integers(0, 2), st.sampled_from([3, 8, 20])),
    st.tuples(st.just("sync"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("pass"), st.integers(1, 9), st.just(0)),
    st.tuples(st.just("purge"), st.integers(0, 2), st.just(0)),
)


class Story:
    """Three replicas of one key, each with a horizon, and the causal past and ends of each dot."""

    def __init__(self) -> None:
        self.time = 1
        self.records = [EMPTY] * 3
        self.horizons = [0] * 3
        self.minted = 0
        self.over: dict[Dot, set[Dot]] = {}
        """For each dot what superseded it, at once or by way of others."""
        self.ends: dict[Dot, int] = {}
        """The latest end that anybody was promised."""

    def write(self, replica: int, ttl: int, *, blind: bool) -> None:
        record = self.records[replica]
        seen = NOTHING if blind else read(record)
        self.minted += 1
        node = actor(10 + self.minted)  # what is gone is never counted on: a fresh epoch each time
        expires = self.time + ttl if ttl else 0
        written = Version(node, 1, b"%d" % self.minted, 0, b"", 0, expires)
        written = replace(written, pure=is_pure(seen, expires))
        if not blind:
            past = {(each.actor, each.counter) for each in record.siblings}
            past |= {dot for dot in self.over if self.over[dot] & past}
            for dot in past:
                self.over[dot].add((node, 1))
        self.over[node, 1] = set()
        self.ends[node, 1] = expires
        self.records[replica] = put(record, seen, written)

    def touch(self, replica: int, ttl: int) -> None:
        touched = touch(self.records[replica], self.time + ttl, self.time)
        self.records[replica] = touched
        for each in touched.siblings:
            dot = (each.actor, each.counter)
            self.ends[dot] = max(self.ends[dot], each.expires)

    def sync(self, source: int, target: int) -> None:
        merged = merge(self.records[target], self.records[source])
        self.records[target] = retire(merged, self.horizons[target]) or EMPTY

    def purge(self, replica: int) -> None:
        self.horizons[replica] = self.time
        self.records[replica] = retire(self.records[replica], self.time) or EMPTY

    def step(self, what: str, one: int, other: int) -> None:
        if what == "put":
            self.write(one, other, blind=False)
        elif what == "blind":
            self.write(one, other, blind=True)
        elif what == "touch":
            self.touch(one, other)
        elif what == "sync":
            self.sync(one, other)
        elif what == "pass":
            self.time += one
        else:
            self.purge(one)
        for record in self.records:
            validate(record)
            self.check(record)

    def check(self, record: Record) -> None:
        """Nothing is shown beside what superseded it, and nothing that has ended for everybody."""
        shown = {(each.actor, each.counter) for each in live(record, self.time)}
        for dot in shown:
            assert not shown & self.over[dot]
            assert not self.ends[dot] or self.ends[dot] > self.time


@given(st.lists(STEP, max_size=40))
@settings(max_examples=300, deadline=None)
def test_replicas_with_horizons_agree_in_the_end_and_bring_nothing_back(
    steps: list[tuple[str, int, int]],
) -> None:
    story = Story()
    for step in steps:
        story.step(*step)

    shown = [live(record, story.time) for record in story.records]
    for replica in range(3):
        story.purge(replica)
    assert [live(record, story.time) for record in story.records] == shown
    for source, target in ((0, 1), (1, 2), (2, 0), (0, 1)):
        story.step("sync", source, target)
    assert len({encode(record) for record in story.records}) == 1


@given(st.lists(STEP, max_size=40))
@settings(max_examples=300, deadline=None)
def test_nothing_superseded_is_ever_shown_again(
    steps: list[tuple[str, int, int]],
) -> None:
    story = Story()
    superseded: list[set[Dot]] = [set(), set(), set()]
    for what, one, other in steps:
        story.step(what, one, other)
        for replica, record in enumerate(story.records):
            if what == "sync" and replica == other:
                superseded[other] |= superseded[one]
            if what in ("put", "blind") and replica == one:
                known = {(each.actor, each.counter) for each in record.siblings}
                superseded[one] |= {dot for dot in story.over if story.over[dot] & known}
            shown = {(each.actor, each.counter) for each in live(record, story.time)}
            assert not shown & superseded[replica]


# -- a put that was minted twice -------------------------------------------------------------------


@st.composite
def written_twice(draw: st.DrawFn) -> Record:
    """Return a record in which several copies may be of one put, as its tries made them."""
    record = draw(copies())
    return Record(
        record.clock,
        [replace(each, op=draw(st.sampled_from([b"", b"x", b"y"]))) for each in record.siblings],
    )


@given(written_twice(), TIMES)
def test_a_put_that_stands_twice_is_shown_once_until_the_last_of_its_copies_ends(
    record: Record, now: int
) -> None:
    def lives(one: Version) -> bool:
        return one.value is not None and not 0 < one.expires <= now

    shown = live(record, now)

    named = [each.op for each in shown if each.op]
    assert len(named) == len(set(named))
    assert set(named) == {each.op for each in record.siblings if each.op and lives(each)}
    for each in shown:
        if each.op and each.expires:  # what a reader is told of its end is true
            assert each.op not in [later.op for later in live(record, each.expires)]


@given(written_twice())
def test_the_end_of_a_put_is_that_of_all_its_copies(record: Record) -> None:
    for written in record.siblings:
        end = versions.end_of(record, written)
        copies_of = [each for each in record.siblings if each.op == written.op != b""] or [written]

        assert end == 0 or not any(each.op for each in live(record, end) if each in copies_of)
        shown = [each.op for each in live(record, max(end - 1, 0)) if each in copies_of]
        last = [each for each in copies_of if each.expires == end]
        assert last
        if any(each.value is not None for each in last):
            assert shown == [written.op] or not end
