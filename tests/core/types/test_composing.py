"""What is shown of a data type, made of values and marks as a read gives them."""

from __future__ import annotations

import msgspec
import pytest

from everwrite.core.data.labels import KIND_BYTES, KIND_PIECE, KIND_TEXT, Kind
from everwrite.core.errors import InvariantError, ProtocolError
from everwrite.core.types import pieces
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.composing import compose, compose_all, has_assigned
from everwrite.core.types.operations import AMOUNT_MAX, Name
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
)

A, B = b"a" * 16, b"b" * 16

Given = tuple[Kind, bytes]


def given(piece: Piece) -> Given:
    return KIND_PIECE, pieces.encode(piece)


def add(amount: int, *path: Name) -> Given:
    return given(Added([*path], amount))


def element(name: Name, *path: Name) -> Given:
    return given(Element([*path], name))


def register(value: bytes, *path: Name) -> Given:
    return given(Written([*path], (KIND_BYTES, value)))


def flag(*path: Name) -> Given:
    return given(Raised([*path], None))


def composed(*given: Given, times: list[int] | None = None) -> Composed | None:
    """Return what is shown of these, which one actor wrote in this order."""
    times = times or list(range(1, len(given) + 1))
    marks = [(A, at, time) for at, time in enumerate(times, 1)]
    return compose(list(given), marks)


def test_nothing_is_shown_of_nothing() -> None:
    assert compose([], []) is None
    assert compose_all([], []) == []


def test_all_types_of_a_clash_are_told_to_who_may_supersede_all() -> None:
    given = [add(2), element("x"), (KIND_BYTES, b"7"), register(b"v", "field"), element("y")]
    marks = [(A, at, at) for at, _ in enumerate(given, 1)]

    assert compose(given, marks) == Set(["x", "y"])
    told = compose_all(given, marks)
    assert told == [Set(["x", "y"]), Counter(9), Map({"field": Register(b"v", KIND_BYTES)})]
    one = compose_all(given[:1], marks[:1])
    assert one == [compose(given[:1], marks[:1])] == [Counter(2)]


def test_a_counter_is_the_sum_of_its_pieces() -> None:
    assert composed(add(3), add(-5), add(1)) == Counter(-1)


def test_a_counter_may_come_to_more_than_one_write_may_add() -> None:
    assert composed(add(AMOUNT_MAX), add(AMOUNT_MAX)) == Counter(2 * AMOUNT_MAX)


def test_a_set_has_each_element_once_in_the_order_of_their_bytes() -> None:
    assert composed(element("é"), element("a"), element(b"\xff"), element("a")) == Set(
        ["a", "é", b"\xff"]
    )


def test_of_registers_the_last_by_time_then_actor_then_counter_is_shown() -> None:
    one, two = register(b"one"), register(b"two")

    assert compose([one, two], [(A, 1, 9), (B, 1, 8)]) == Register(b"one", KIND_BYTES)
    assert compose([one, two], [(A, 2, 8), (B, 1, 8)]) == Register(b"two", KIND_BYTES)
    assert compose([one, two], [(A, 1, 8), (A, 2, 8)]) == Register(b"two", KIND_BYTES)


def test_a_plain_value_is_a_register() -> None:
    assert compose([(KIND_TEXT, b"tea")], [(A, 1, 1)]) == Register(b"tea", KIND_TEXT)


def test_a_plain_value_and_what_was_assigned_are_told_apart() -> None:
    plain, field = (KIND_BYTES, b"v"), register(b"v", "field")

    assert not has_assigned([plain, field])
    assert has_assigned([plain, register(b"v")])


def test_a_map_is_what_has_longer_paths() -> None:
    assert composed(
        add(2, "pears"), element("x", "tags"), register(b"v", "in", "side"), flag("paid")
    ) == Map(
        {
            "in": Map({"side": Register(b"v", KIND_BYTES)}),
            "paid": Flag(True),
            "pears": Counter(2),
            "tags": Set(["x"]),
        }
    )


def test_the_fields_of_a_map_are_in_the_order_of_their_bytes() -> None:
    shown = composed(add(1, "é"), add(1, b"\xff"), add(1, "b"))

    assert isinstance(shown, Map)
    assert list(shown.fields) == ["b", "é", b"\xff"]


# -- two types at one place ------------------------------------------------------------------------


def test_of_two_types_that_of_the_last_piece_is_shown_as_a_whole() -> None:
    assert composed(element("x"), add(1), element("y")) == Set(["x", "y"])
    assert composed(element("x"), flag(), add(1), add(2)) == Counter(3)
    assert composed(add(1), flag()) == Flag(True)


def test_a_map_is_as_late_as_the_last_piece_below_it() -> None:
    below = add(1, "deep", "down")

    assert composed(below, element("x")) == Set(["x"])
    assert composed(element("x"), below) == Map({"deep": Map({"down": Counter(1)})})


def test_a_clash_in_a_field_leaves_the_other_fields_alone() -> None:
    assert composed(add(1, "a"), element("x", "a"), add(2, "b")) == Map(
        {"a": Set(["x"]), "b": Counter(2)}
    )


def test_increments_beside_an_integer_are_added_to_it_whichever_came_first() -> None:
    for text, number in ((b"5", 5), (b"-12", -12), (b"0", 0), (b"%d" % AMOUNT_MAX, AMOUNT_MAX)):
        assert composed((KIND_BYTES, text), add(2)) == Counter(number + 2)
        assert composed(add(2), (KIND_BYTES, text)) == Counter(number + 2)
        assert composed(register(text, "f"), add(2, "f")) == Map({"f": Counter(number + 2)})


def test_only_the_last_of_several_integers_counts() -> None:
    assert composed(register(b"5"), add(1), register(b"7")) == Counter(8)


@pytest.mark.parametrize("text", [b"", b"a", b"+1", b"01", b"-0", b" 1", b"1\n", b"9" * 19, b"1.5"])
def test_what_is_no_integer_of_64_bits_is_another_type_than_a_counter(text: bytes) -> None:
    assert composed(register(text), add(2)) == Counter(2)
    assert composed(add(2), register(text)) == Register(text, KIND_BYTES)


def test_a_number_is_as_late_as_its_last_part() -> None:
    assert composed(register(b"5"), element("x"), add(1)) == Counter(6)
    assert composed(add(1), element("x"), register(b"5")) == Counter(6)
    assert composed(add(1), register(b"5"), element("x")) == Set(["x"])


# -- what is no piece ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        [9, [], None],
        [-1, [], None],
        [COUNTER, [], None],
        [COUNTER, [], 1 << 63],
        [COUNTER, [], True],
        [COUNTER, ["a"] * 9, 1],
        [COUNTER, [b"text"], 1],
        [COUNTER, [1], 1],
        [ELEMENT, [], b"text"],
        [ELEMENT, [], 3],
        [FLAG, [], 1],
        [FLAG, []],
        [FLAG + 1, [], None],
        [REGISTER, [], b"v"],
        [REGISTER, [], [0]],
        [REGISTER, []],
        "text",
    ],
)
def test_bytes_that_are_no_piece_are_refused(said: object) -> None:
    with pytest.raises(ProtocolError):
        compose([(KIND_PIECE, msgspec.msgpack.encode(said))], [(A, 1, 1)])


def test_a_read_without_marks_cannot_be_composed() -> None:
    with pytest.raises(InvariantError):
        compose([add(1)], [])
