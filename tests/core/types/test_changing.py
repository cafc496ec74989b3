"""What a coordinator makes of operations: results, refusals, ids, folds."""

from __future__ import annotations

import pytest
from tests.core.types.key import ADD, MINUTE, NOW, A, B, Key, plain
from tests.core.types.replicas import shown

from everwrite.core.data import versions
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import EMPTY, Seen, Version
from everwrite.core.errors import RequestError, TooLarge, WrongType
from everwrite.core.types import operations
from everwrite.core.types.beside import PlainBeside
from everwrite.core.types.changing import FOLD_OVER, told_again
from everwrite.core.types.composed import Counter, Map, Register, Set
from everwrite.core.types.operations import (
    AMOUNT_MAX,
    ELEMENTS_MAX,
    OPERATIONS_MAX,
    Add,
    Assign,
    Disable,
    Enable,
    Exclude,
    Include,
    Operation,
    Remove,
)

# -- results ---------------------------------------------------------------------------------------


def test_each_operation_says_what_it_did() -> None:
    key = Key()

    assert key.results(Add(["n"], 5), Add(["n"], -7)) == [5, -2]
    assert key.results(Include(["s"], ["x", "y", "x"]), Include(["s"], ["y", "z"])) == [2, 1]
    assert key.results(Exclude(["s"], ["x", "x", "q"]), Exclude(["no"], ["x"])) == [1, 0]
    assert key.results(Assign(["r"], b"v"), Assign(["r"], b"w", 1)) == [1, 0]
    assert key.results(Enable(["f"]), Enable(["f"]), Disable(["f"]), Disable(["f"])) == [1, 0, 1, 0]
    assert key.results(Remove(["n"]), Remove(["n"]), Remove(["no", "where"])) == [1, 0, 0]
    assert key.shown() == Map({"r": Register(b"w", 1), "s": Set(["y", "z"])})


def test_one_put_comes_to_no_more_pieces_than_it_needs() -> None:
    key = Key()

    done = key.do(Add([], 1), Add([], 2), Add([], 3))
    gone = Key().do(Add([], 1), Remove([]))

    assert len(done.written) == 1 and key.shown() == Counter(6)
    assert gone.written == [] and gone.record is EMPTY


def test_a_change_that_changes_nothing_writes_nothing() -> None:
    key = Key()
    key.do(Include([], ["x"]))
    before = key.record

    done = key.do(Exclude([], ["q"]))

    assert (done.results, done.written, done.record is before) == ([0], [], True)


def test_what_takes_away_only_leaves_a_tombstone_until_the_next_change() -> None:
    key = Key()
    key.do(Include([], ["x", "y"]))

    (mark,) = key.do(Exclude([], ["x"]), op=b"took").written
    assert (mark.value, mark.op) == (None, b"took")
    assert key.shown() == Set(["y"])
    key.do(Exclude([], ["y"]))
    assert versions.is_tombstone(key.record) and key.shown() is None
    assert len(key.record.siblings) == 1

    key.do(Include([], ["z"]))
    assert [each.value is None for each in key.record.siblings] == [False]


# -- types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (Include([], ["x"]), Add([], 1)),
        (Include([], ["x"]), Assign([], b"v")),
        (Add([], 1), Include([], ["x"])),
        (Add([], 1), Exclude([], ["x"])),
        (Add([], 1), Enable([])),
        (Enable([]), Include([], ["x"])),
        (Add(["a"], 1), Include([], ["x"])),
        (Add(["a"], 1), Add([], 1)),
        (Add(["a"], 1), Add(["a", "b"], 1)),
        (Add(["a"], 1), Remove(["a", "b"])),
        (Assign([], b"text"), Add([], 1)),
        (Assign([], b"5"), Disable([])),
    ],
    ids=repr,
)
def test_an_operation_for_another_type_is_refused_and_nothing_of_its_put_is_done(
    there: Operation, asked: Operation
) -> None:
    key = Key()
    key.do(there)
    before = key.record

    with pytest.raises(WrongType, match="Nothing was changed"):
        key.do(there, asked)

    assert key.record is before


def test_a_refusal_says_where_it_met_what() -> None:
    key = Key()
    key.do(Include(["cart", "tags"], ["x"]))

    with pytest.raises(WrongType, match=r"at 'cart/tags' is a set, .* for a counter"):
        key.do(Add(["cart", "tags"], 1))


def test_a_number_and_a_counter_are_one_type() -> None:
    key = Key(plain(b"5"))

    assert key.results(Add([], 3)) == [8]
    assert key.results(Assign([], b"100")) == [0]
    assert key.results(Add([], -1)) == [99]
    assert key.shown() == Counter(99)
    assert len(key.record.siblings) == 2, "an assignment supersedes all that was added before"


def test_a_plain_value_is_a_register_that_an_assignment_takes_over() -> None:
    key = Key(plain(b"text"))

    assert key.results(Assign([], b"other")) == [0]
    assert [each.kind for each in key.record.siblings] == [KIND_PIECE]


def test_of_a_clash_only_what_is_shown_stays_once_somebody_writes_there() -> None:
    one, other = Key(), Key()
    one.do(Add(["x"], 1), Add(["y"], 2))
    other.do(Include(["x"], ["e"]), by=B, time_ms=NOW + 1)
    key = Key(versions.merge(one.record, other.record))
    assert key.shown() == Map({"x": Set(["e"]), "y": Counter(2)})

    assert key.do(Add(["y"], 1)).clashes == 0, "it did not come by"
    done = key.do(Exclude(["x"], ["e"]))

    assert (done.results, done.clashes) == ([1], 1)
    assert key.shown() == Map({"y": Counter(3)}), "the counter beneath does not come up"


def test_a_clash_on_the_way_to_a_field_ends_too() -> None:
    one, other = Key(), Key()
    one.do(Add([], 1))
    other.do(Add(["f"], 2), by=B, time_ms=NOW + 1)
    key = Key(versions.merge(one.record, other.record))

    assert key.do(Add(["f"], 1)).clashes == 1
    assert key.shown() == Map({"f": Counter(3)})
    assert key.results(Remove(["f"])) == [1]
    assert key.shown() is None


def test_a_remove_takes_all_types_that_it_has_seen() -> None:
    one, other = Key(), Key()
    one.do(Add([], 1))
    other.do(Add(["f"], 2), by=B)
    key = Key(versions.merge(one.record, other.record))

    assert key.results(Remove([])) == [1]
    assert versions.is_tombstone(key.record)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "amount"), [(AMOUNT_MAX, 1), (-AMOUNT_MAX - 1, -1)])
def test_a_counter_over_64_bits_is_refused(start: int, amount: int) -> None:
    key = Key()
    key.do(Add([], start))

    with pytest.raises(RequestError, match="more than 64 bits"):
        key.do(Add([], amount))

    assert key.shown() == Counter(start)


def test_a_counter_that_writes_at_once_brought_over_64_bits_comes_back() -> None:
    one, other = Key(), Key()
    one.do(Add([], AMOUNT_MAX))
    other.do(Add([], AMOUNT_MAX), by=B)
    key = Key(versions.merge(one.record, other.record))

    assert key.shown() == Counter(2 * AMOUNT_MAX)
    with pytest.raises(RequestError):
        key.do(Add([], -1))
    assert told_again(key.record, [ADD], NOW) == [AMOUNT_MAX]
    assert key.results(Add([], -AMOUNT_MAX)) == [AMOUNT_MAX]


def test_a_change_over_the_cap_of_pieces_is_refused() -> None:
    key = Key()
    key.do(Include([], ["a", "b", "c"]), pieces_max=3)

    with pytest.raises(TooLarge, match="4 pieces"):
        key.do(Include([], ["d"]), pieces_max=3)

    assert key.do(Include([], ["a"]), pieces_max=3).results == [0]
    assert key.do(Exclude([], ["a"]), pieces_max=1).results == [1], "what takes away is taken"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91\x93\xa3add\x91\xa1\xff\x01",
        b"\x91\x93\xa7include\x90\x91\xa2\xc3\x28",
        b"\x91\x94\xa6assign\x90\xc4\x01v\xc4\x05\x93\x00\xa1\xff\x80",
    ],
)
def test_bytes_that_are_no_operations_are_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        operations.decode(data)


def test_no_more_elements_come_in_one_put_than_a_set_may_have() -> None:
    half = [str(number) for number in range(ELEMENTS_MAX // 2 + 1)]
    with pytest.raises(RequestError, match=f"{2 * len(half)} elements"):
        operations.decode(operations.encode([Include(["a"], half), Exclude(["b"], half)]))


def test_many_additions_in_one_put_take_time_in_proportion() -> None:
    key = Key()
    key.do(*(Add([str(number)], 1) for number in range(2000)))
    seen = operations.encode([Add([str(number % 3)], 1) for number in range(OPERATIONS_MAX)])
    asked = operations.decode(seen)

    assert key.results(*asked)[-3:] == [5462, 5463, 5463]
    assert told_again(key.record, asked, NOW)[-3:] == [5462, 5463, 5463]
    mixed = [Add(["0"], 1), Remove(["0"]), Add(["0"], 5), Add(["0"], 1)]
    assert key.results(*mixed) == [5464, 1, 5, 6]


def test_what_has_ended_counts_for_no_cap_once_it_is_superseded() -> None:
    key = Key()
    for _ in range(20):
        key.do(ADD, ttl_ms=MINUTE, pieces_max=20)
    with pytest.raises(TooLarge):
        key.do(ADD, ttl_ms=MINUTE, pieces_max=20)
    later = NOW + 2 * MINUTE

    assert key.do(ADD, ttl_ms=MINUTE, pieces_max=20, time_ms=later).results == [1]


@pytest.mark.parametrize(
    "asked",
    [
        [],
        [ADD] * (OPERATIONS_MAX + 1),
        [Add(["a"] * 9, 1)],
        [Add(["a" * 1025], 1)],
        [Add([b"text"], 1)],
        [Include([], [b"text"])],
        [Include([], [1])],  # type: ignore[list-item]
        [Add([], AMOUNT_MAX + 1)],
        [Add([], "1")],  # type: ignore[arg-type]
        [Assign([], b"v", KIND_PIECE)],
        [Assign([], b"v", b"no label")],
        [Assign([], b"v" * (VALUE_BYTES_MAX + 1))],
        ["add"],
    ],
    ids=lambda asked: repr(asked)[:40],
)
def test_operations_that_cannot_be_are_refused(asked: list[Operation]) -> None:
    with pytest.raises(RequestError, match=r"Nothing was done|Use 0|Split it"):
        operations.decode(operations.encode(asked))


def test_a_set_of_many_elements_takes_time_in_proportion() -> None:
    """Each dot that is superseded is looked up, never searched for."""
    key = Key()
    names = [f"name-{number}" for number in range(4000)]
    key.do(Include([], names))  # type: ignore[arg-type]

    assert key.results(Include([], names), Exclude([], names[1:])) == [0, 3999]  # type: ignore[arg-type]
    assert key.shown() == Set(["name-0"])


# -- ids and times ---------------------------------------------------------------------------------


def test_pieces_of_one_put_do_not_hide_each_other_and_those_of_a_retry_do() -> None:
    asked = [Include(["s"], ["x", "y"]), Add(["n"], 2), Assign(["r"], b"v")]
    one, other = Key(), Key()
    one.do(*asked, op=b"once")
    other.do(Exclude(["s"], ["x"]), by=B)
    other.do(*asked, by=B, op=b"once")
    merged = versions.merge(one.record, other.record)

    assert one.record.siblings[0].op == b"once"
    assert len({each.op for each in one.record.siblings}) == 4
    assert len(versions.live(merged)) == 4
    assert shown(merged) == one.shown()


def test_who_takes_an_element_away_takes_all_its_copies() -> None:
    one, other = Key(), Key()
    one.do(Include([], ["x"]), op=b"once")
    other.do(Include([], ["x"]), op=b"once", by=B)
    key = Key(versions.merge(one.record, other.record))

    assert key.results(Exclude([], ["x"])) == [1]
    assert key.shown() is None


def test_a_write_that_has_seen_another_is_later_whatever_the_clock_says() -> None:
    key = Key()
    key.do(Assign([], b"first"), time_ms=NOW)

    (second,) = key.do(Assign([], b"second"), by=B, time_ms=NOW - MINUTE).written

    assert second.time_ms == NOW + 1


def test_a_retry_that_is_recognised_is_told_what_is_there_now() -> None:
    key = Key()
    asked = [Add(["n"], 2), Include(["s"], ["x"]), Remove(["q"])]
    key.do(*asked)
    key.do(Add(["n"], 5))

    assert told_again(key.record, asked, NOW) == [7, 0, 0]


# -- folds -----------------------------------------------------------------------------------------


def test_a_coordinator_keeps_few_increments_of_its_own_apart() -> None:
    key = Key()
    for number in range(100):
        assert key.results(ADD) == [number + 1]

    assert len(key.record.siblings) == FOLD_OVER + 1
    assert key.shown() == Counter(100)
    assert [bool(each.op) for each in key.record.siblings] == [False, *([True] * FOLD_OVER)]
    assert [each.counter for each in key.record.siblings] == [1, *range(93, 101)]


def test_each_field_is_folded_by_itself_and_nobody_folds_others_increments() -> None:
    key = Key()
    for _ in range(20):
        key.do(Add(["a"], 1), by=A)
        key.do(Add(["b"], 1), by=A)
        key.do(Add(["a"], 1), by=B)

    assert key.shown() == Map({"a": Counter(40), "b": Counter(20)})
    assert len(key.record.siblings) == 3 * (FOLD_OVER + 1)
    minters = {each.actor for each in key.record.siblings if not each.op}
    assert minters == {A, B}


def test_a_remove_brings_nothing_back_that_is_folded_meanwhile() -> None:
    """The remove has not seen the ninth one, and all others."""
    key = Key()
    for _ in range(FOLD_OVER + 5):
        key.do(ADD)
    remover = Key(key.record)
    remover.do(Remove([]), by=B)
    key.do(Add([], 7))

    assert shown(versions.merge(key.record, remover.record)) == Counter(7)


def test_increments_that_would_come_to_too_much_in_one_piece_stay_apart() -> None:
    key = Key()
    for _ in range(FOLD_OVER + 3):
        key.do(Add([], AMOUNT_MAX), by=A)
        key.do(Add([], -AMOUNT_MAX), by=B)

    assert key.shown() == Counter(0)


def test_an_increment_is_left_apart_while_it_stands_under_another_dot_too() -> None:
    one, other = Key(), Key()
    one.do(Add([], 100), op=b"once", by=A)
    other.do(Add([], 100), op=b"once", by=B)
    both = versions.merge(one.record, other.record)
    lower, higher = Key(both), Key(both)
    for _ in range(FOLD_OVER + 3):
        lower.do(ADD, by=A)
        higher.do(ADD, by=B)

    assert b"once" in [each.op for each in lower.record.siblings if each.actor == A]
    assert b"once" not in [each.op for each in higher.record.siblings if each.actor == B]
    assert lower.shown() == higher.shown() == Counter(100 + FOLD_OVER + 3)
    merged = Key(versions.merge(lower.record, higher.record))
    assert merged.shown() == Counter(100 + 2 * (FOLD_OVER + 3))
    merged.do(ADD, by=A)
    assert b"once" not in [each.op for each in merged.record.siblings], "it stands once, and folds"
    assert merged.shown() == Counter(101 + 2 * (FOLD_OVER + 3))


def test_a_plain_value_that_hides_a_data_type_is_named_with_its_own_dot() -> None:
    key = Key()
    key.do(Add(["tea"], 1))
    key.record = versions.merge(key.record, plain(b"put"))

    with pytest.raises(PlainBeside, match="put beside the map that stands there") as hidden:
        key.do(Add(["tea"], 1))
    assert hidden.value.dots == ((B, 1),)
    with pytest.raises(WrongType, match="What stands there is a register") as other:
        key.do(Include([], ["red"]))
    assert not isinstance(other.value, PlainBeside), "no set is there to be shown"

    taken = Version(B, 2, None, NOW, b"taken", 0)
    key.record = versions.put(key.record, Seen({}, [*hidden.value.dots]), taken)
    assert key.results(Add(["tea"], 1)) == [2]


def test_a_register_that_was_assigned_is_no_plain_value() -> None:
    one, other = Key(), Key()
    one.do(Add(["tea"], 1))
    other.do(Assign([], b"assigned"), by=B, time_ms=NOW + 1)
    key = Key(versions.merge(one.record, other.record))

    with pytest.raises(WrongType, match="What stands there is a register") as refused:
        key.do(Add(["tea"], 1))
    assert not isinstance(refused.value, PlainBeside)
