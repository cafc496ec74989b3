"""Versions: the paper's own example, the laws of merge, and every put against causal histories."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.data.histories import (
    Implementation,
    Step,
    actor,
    dots,
    play,
    records,
    steps,
    version,
)
from tests.core.data.laws import merge_is_a_join, merge_keeps_what_none_superseded

from everwrite.core.data import versions
from everwrite.core.data.versions import (
    EMPTY,
    NOTHING,
    Record,
    Seen,
    Version,
    decode,
    encode,
    live,
    merge,
    put,
    seen_after,
    validate,
)
from everwrite.core.errors import InvariantError, ProtocolError

SX, SY, SZ = actor(1), actor(2), actor(3)


def write(record: Record, seen: Seen, node: bytes, value: bytes | None = b"v") -> Record:
    """Return the record after a put through this node."""
    return put(record, seen, version(node, versions.next_counter(record, node), value))


def read(record: Record) -> Seen:
    return Seen(record.clock, [])


# -- as in the paper -------------------------------------------------------------------------------


def test_the_paper_example_of_figure_3() -> None:
    """Dynamo 4.4: D1, D2 through Sx; D3 through Sy and D4 through Sz at once; D5 reconciles."""
    d1 = write(EMPTY, NOTHING, SX, b"D1")
    d2 = write(d1, read(d1), SX, b"D2")
    d3 = write(d2, read(d2), SY, b"D3")
    d4 = write(d2, read(d2), SZ, b"D4")

    met = merge(d3, d4)

    assert d2.clock == {SX: 2}
    assert [v.value for v in live(d2)] == [b"D2"]
    assert [v.value for v in live(met)] == [b"D3", b"D4"]

    d5 = write(met, read(met), SX, b"D5")

    assert d5.clock == {SX: 3, SY: 1, SZ: 1}
    assert [v.value for v in live(d5)] == [b"D5"]
    assert merge(d5, d3) == merge(d5, d4) == d5


def test_put_drops_only_siblings_its_context_covers() -> None:
    first = write(EMPTY, NOTHING, SX, b"seen")
    second = write(first, NOTHING, SX, b"unseen")

    record = write(second, read(first), SX, b"new")

    assert [v.value for v in live(record)] == [b"unseen", b"new"]


def test_put_drops_a_single_dot_and_not_the_earlier_writes_of_its_actor() -> None:
    record = write(write(EMPTY, NOTHING, SX, b"of another"), NOTHING, SX, b"mine")

    after = write(record, Seen({}, [(SX, 2)]), SX, b"mine again")

    assert [v.value for v in live(after)] == [b"of another", b"mine again"]


def test_a_context_supersedes_writes_that_have_not_arrived_yet() -> None:
    elsewhere = write(EMPTY, NOTHING, SY, b"old")
    here = write(EMPTY, read(elsewhere), SX, b"new")

    assert [v.value for v in live(merge(here, elsewhere))] == [b"new"]


def test_a_delete_is_a_version_that_nobody_is_shown() -> None:
    there = write(EMPTY, NOTHING, SX, b"v")
    gone = write(there, read(there), SX, None)

    assert live(gone) == []
    assert merge(gone, there) == gone
    assert gone.siblings[0].value is None


def test_a_put_at_the_same_time_as_a_delete_wins() -> None:
    there = write(EMPTY, NOTHING, SX, b"v")
    gone = write(there, read(there), SX, None)
    changed = write(there, read(there), SY, b"w")

    assert [v.value for v in live(merge(gone, changed))] == [b"w"]


def test_a_dot_that_is_not_its_actors_next_is_refused() -> None:
    record = write(EMPTY, NOTHING, SX)

    for counter in (1, 3):
        with pytest.raises(InvariantError):
            put(record, NOTHING, version(SX, counter))
    with pytest.raises(InvariantError):
        put(record, Seen({SX: 2}, []), version(SX, 2))


def test_k_blind_writers_make_k_siblings_and_one_contextual_put_makes_them_one() -> None:
    record = EMPTY
    for node in (SX, SY, SZ, SX, SX):
        record = write(record, NOTHING, node)

    assert len(record.siblings) == 5
    assert len(write(record, read(record), SY).siblings) == 1


def test_a_chain_of_puts_without_a_read_keeps_one_sibling_of_its_writer() -> None:
    """A writer that passes the context of its previous put never meets its own old writes."""
    record = write(write(EMPTY, NOTHING, SX, b"other"), NOTHING, SY, b"other")
    seen = NOTHING
    for i in range(100):
        node = (SX, SX, SY)[i % 3]
        written = version(node, versions.next_counter(record, node), b"mine")
        record = put(record, seen, written)
        seen = seen_after(record, seen, written)

    assert [v.value for v in live(record)].count(b"mine") == 1
    assert len(record.siblings) == 3
    assert len(seen.dots) + len(seen.clock) <= 3


def test_interleaved_stale_writers_keep_two_siblings() -> None:
    """Riak's sibling explosion: two clients, each always one put behind the other."""
    record, contexts = EMPTY, [NOTHING, NOTHING]
    for i in range(100):
        written = version(SX, versions.next_counter(record, SX), b"%d" % (i % 2))
        record = put(record, contexts[i % 2], written)
        contexts[i % 2] = seen_after(record, contexts[i % 2], written)

    assert [v.value for v in live(record)] == [b"0", b"1"]
    assert len(encode(record)) < 200


def test_a_put_that_was_retried_through_another_node_is_shown_once() -> None:
    once = put(EMPTY, NOTHING, version(SX, 1, b"v", op=b"op"))
    again = put(EMPTY, NOTHING, version(SY, 1, b"v", op=b"op"))

    met = merge(once, again)

    assert len(met.siblings) == 2
    assert [v.value for v in live(met)] == [b"v"]


def test_equal_values_of_different_puts_are_both_shown() -> None:
    record = write(write(EMPTY, NOTHING, SX, b"v"), NOTHING, SX, b"v")

    assert len(live(record)) == 2


# -- what a writer has seen ------------------------------------------------------------------------


def test_seen_after_never_covers_an_unseen_sibling() -> None:
    other = write(EMPTY, NOTHING, SX, b"other")
    written = version(SX, 2, b"mine")
    record = put(other, NOTHING, written)

    assert seen_after(record, NOTHING, written) == Seen({}, [(SX, 2)])


def test_seen_after_does_not_cover_a_write_whose_successor_was_not_seen() -> None:
    """SX's first write was superseded by SY's, of which the writer knows nothing either."""
    first = write(EMPTY, NOTHING, SX, b"first")
    second = write(first, read(first), SY, b"second")
    written = version(SX, 2, b"mine")
    record = put(second, NOTHING, written)

    seen = seen_after(record, NOTHING, written)

    assert not versions.covers(seen.clock, SX, 1)
    assert [v.value for v in live(write(first, seen, SZ, b"more"))] == [b"first", b"more"]


def test_a_node_that_missed_a_put_still_drops_what_that_put_superseded() -> None:
    """SZ missed the write through SY, whose context named the dot that it superseded."""
    written = version(SX, 2, b"mine")
    behind = put(write(EMPTY, NOTHING, SX, b"other"), NOTHING, written)
    seen = seen_after(behind, NOTHING, written)
    deleted = version(SY, 1, None)
    seen = seen_after(put(behind, seen, deleted), seen, deleted)

    record = write(behind, seen, SZ, b"mine again")

    assert [v.value for v in live(record)] == [b"other", b"mine again"]


def test_merge_heals_a_record_whose_clock_knows_more_but_not_better() -> None:
    """SZ took a put that had seen SY's delete, but could not find what that had superseded."""
    old = write(EMPTY, NOTHING, SX, b"deleted long ago")
    gone = write(old, read(old), SY, None)
    ahead = Record({SX: 1, SY: 1, SZ: 1}, [*old.siblings, version(SZ, 1, b"new")])

    assert [v.value for v in live(merge(ahead, gone))] == [b"new"]
    assert [v.value for v in live(merge(gone, ahead))] == [b"new"]


@given(steps())
@settings(max_examples=400, deadline=None)
def test_siblings_are_exactly_the_writes_that_no_other_had_seen(story: list[Step]) -> None:
    world = play(story, Implementation())

    assert not world.looked_in_vain


@given(steps(forgetful=True))
@settings(max_examples=300, deadline=None)
def test_no_write_is_lost_to_a_replica_that_forgot_what_it_knew(story: list[Step]) -> None:
    play(story, Implementation())


@given(steps())
@settings(max_examples=100, deadline=None)
def test_replicas_that_met_hold_the_same_bytes(story: list[Step]) -> None:
    world = play(story, Implementation())

    for source, target in ((0, 1), (1, 2), (2, 0), (2, 1)):
        world.sync(source, target)

    assert len({encode(record) for record in world.records}) == 1


# -- the laws of merge -----------------------------------------------------------------------------


@given(records(), records(), records())
@settings(max_examples=500, deadline=None)
def test_merge_is_commutative_associative_and_idempotent(a: Record, b: Record, c: Record) -> None:
    merge_is_a_join(merge, a, b, c)


@given(records(), records())
@settings(max_examples=500, deadline=None)
def test_merge_keeps_what_neither_side_superseded(a: Record, b: Record) -> None:
    merge_keeps_what_none_superseded(merge, a, b)


def test_merge_returns_the_very_record_that_is_the_answer() -> None:
    old = write(EMPTY, NOTHING, SX)
    new = write(old, read(old), SX)

    assert merge(old, new) is new
    assert merge(new, old) is new


# -- bytes -----------------------------------------------------------------------------------------


@given(records())
@settings(deadline=None)
def test_records_survive_their_bytes_and_have_one_spelling(record: Record) -> None:
    assert validate(decode(encode(record))) == record
    assert encode(decode(encode(record))) == encode(record)


def test_equal_knowledge_is_equal_bytes_whatever_the_order_it_came_in() -> None:
    parts = [write(EMPTY, NOTHING, node) for node in (SX, SY, SZ)]
    x, y, z = parts

    assert encode(merge(merge(x, y), z)) == encode(merge(z, merge(y, x)))
    assert list(merge(z, x).clock) == [SX, SZ]


def test_a_record_without_the_newer_fields_of_a_version_is_read() -> None:
    older = b"\x92\x81\xc4\x10" + SX + b"\x01\x91\x95\xc4\x10" + SX + b"\x01\xc4\x01v\x00\xc4\x00"

    assert decode(older) == Record({SX: 1}, [Version(SX, 1, b"v", 0, b"", 0)])


@given(st.binary(max_size=80))
@settings(deadline=None)
def test_bytes_that_are_no_record_raise_only_a_protocol_error(data: bytes) -> None:
    with suppress(ProtocolError):
        validate(decode(data))


@pytest.mark.parametrize(
    "broken",
    [
        Record({SY: 1, SX: 1}, []),
        Record({SX: 0}, []),
        Record({SX: -1}, []),
        Record({b"short": 1}, []),
        Record({SX: 1}, [version(SX, 2)]),
        Record({SX: 1}, [version(SY, 1)]),
        Record({SX: 1}, [version(SX, 0)]),
        Record({SX: 2}, [version(SX, 2), version(SX, 1)]),
        Record({SX: 1}, [version(SX, 1), version(SX, 1)]),
        Record({SX: 1}, [replace(version(SX, 1), time_ms=1 << 63)]),
        Record({SX: 1}, [replace(version(SX, 1), time_ms=-1)]),
    ],
)
def test_a_record_that_breaks_the_invariant_is_refused(broken: Record) -> None:
    with pytest.raises(ProtocolError):
        validate(broken)


def test_a_dotted_list_is_in_the_order_of_its_dots() -> None:
    record = write(write(write(EMPTY, NOTHING, SZ), NOTHING, SX), NOTHING, SZ)

    assert dots(record) == [(SX, 1), (SZ, 1), (SZ, 2)]
