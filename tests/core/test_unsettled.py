"""Which increments a node leaves apart: those that somebody may make again, and not too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.core import unsettled
from everwrite.core.unsettled import ANSWERED_MAX, DOUBT_MS, Unsettled


def ids(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def left(table: Unsettled, first: int, end: int) -> list[bytes]:
    return [op for op in ids(first, end) if op in table]


def test_what_was_answered_with_all_its_copies_is_settled() -> None:
    table = Unsettled()
    table.add(ids(0, 4), 1)
    table.answered(b"key", ids(0, 2))
    table.settle(ids(1, 3))

    assert left(table, 0, 4) == [b"0", b"3"]


def test_of_what_was_answered_without_them_the_last_of_each_key_are_in_doubt() -> None:
    table = Unsettled()
    table.add([b"late"], 1)
    for number in range(3 * ANSWERED_MAX):
        op = [b"%d" % number]
        table.add(op, 1)
        table.answered(b"key", op)
    table.add([b"other"], 1)
    table.answered(b"other key", [b"other"])

    assert left(table, 0, 3 * ANSWERED_MAX) == ids(2 * ANSWERED_MAX, 3 * ANSWERED_MAX)
    assert b"late" in table and b"other" in table


def test_a_put_of_more_increments_than_may_stand_apart_keeps_the_last() -> None:
    table = Unsettled()
    table.add(ids(0, 2 * ANSWERED_MAX), 1)
    table.answered(b"key", ids(0, 2 * ANSWERED_MAX))

    assert left(table, 0, 2 * ANSWERED_MAX) == ids(ANSWERED_MAX, 2 * ANSWERED_MAX)


def test_what_is_made_again_is_in_doubt_anew() -> None:
    table = Unsettled()
    table.add([b"again"], 1)
    table.answered(b"key", [b"again"])
    table.add([b"again"], 1)
    for number in range(ANSWERED_MAX):
        op = [b"%d" % number]
        table.add(op, DOUBT_MS)
        table.answered(b"key", op)
    assert b"again" in table

    table.forget(DOUBT_MS + 1)
    assert b"again" not in table and len(table) == ANSWERED_MAX


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("add", "answered", "settle", "forget")),
            st.integers(0, 60),
            st.integers(0, 40),
            st.sampled_from((b"k", b"l")),
        ),
        max_size=40,
    )
)
def test_the_table_holds_nothing_beside_what_is_in_doubt(
    steps: list[tuple[str, int, int, bytes]],
) -> None:
    table, now = Unsettled(), 0
    keys: dict[bytes, bytes] = {}
    for what, first, count, key in steps:
        now += DOUBT_MS // 10
        # An id is of one key, for ever.
        ops = [op for op in ids(first, first + count) if keys.setdefault(op, key) == key]
        if what == "add":
            table.add(ops, now)
        elif what == "answered":
            table.answered(key, ops)
        elif what == "settle":
            table.settle(ops)
        else:
            table.forget(now)
        of_keys = table._answered
        assert all(0 < len(there) <= ANSWERED_MAX for there in of_keys.values())
        assert {op: key for key, there in of_keys.items() for op in there} == {
            op: key for op, (_, key) in table._since.items() if key
        }

    table.forget(now + DOUBT_MS)
    assert not len(table) and not table._answered


def test_the_table_is_bounded() -> None:
    table = Unsettled()
    most = unsettled.UNSETTLED_MAX
    table.add(ids(0, most), 1)
    table.answered(b"key", [b"0"])
    table.add(ids(most, most + 5), 1)

    assert (len(table), table.dropped, table._answered) == (most, 5, {})
    assert b"4" not in table and b"5" in table


def in_doubt(doubts: Unsettled) -> list[bytes]:
    return [op for op in (b"a", b"b", b"c", b"d") if op in doubts]


def test_an_increment_is_in_doubt_until_its_put_is_acknowledged_or_its_time_is_over() -> None:
    doubts = Unsettled()
    doubts.add([b"a", b"b"], 0)
    doubts.add([b"c"], 10)

    doubts.settle([b"a", b"never there"])
    assert in_doubt(doubts) == [b"b", b"c"]
    doubts.forget(DOUBT_MS - 1)
    assert in_doubt(doubts) == [b"b", b"c"]
    doubts.forget(DOUBT_MS)
    assert in_doubt(doubts) == [b"c"]
    assert doubts.dropped == 0


def test_an_increment_that_is_minted_again_is_in_doubt_from_then_on() -> None:
    doubts = Unsettled()
    doubts.add([b"a", b"b"], 0)
    doubts.add([b"a"], 10)

    doubts.forget(DOUBT_MS)
    assert in_doubt(doubts) == [b"a"]


def test_of_too_many_the_oldest_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsettled, "UNSETTLED_MAX", 2)
    doubts = Unsettled()
    doubts.add([b"a", b"b"], 0)
    assert doubts.dropped == 0

    doubts.add([b"c", b"d"], 1)
    assert in_doubt(doubts) == [b"c", b"d"]
    assert doubts.dropped == 2
