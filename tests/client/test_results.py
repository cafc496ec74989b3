"""Values to bytes and back, and what a Found says."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import everwrite
from everwrite.client.results import decode_value, encode_value
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.data.labels import KIND_JSON, KIND_TEXT

TEXT = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.booleans() | NUMBERS,
    lambda inner: st.lists(inner | st.none() | TEXT) | st.dictionaries(TEXT, inner | st.none()),
    max_leaves=10,
)


class Item(msgspec.Struct):
    count: int


def found(*values: Any, merge: Any = None) -> everwrite.Found:
    return everwrite.Found(list(values), b"", everwrite.Quality(2, 0, 2), merge)


@given(st.binary() | TEXT)
def test_bytes_and_text_come_back_as_they_were(value: bytes | str) -> None:
    back = decode_value(*encode_value(value))

    assert back == value
    assert type(back) is type(value)


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert decode_value(*encode_value(value)) == value


@pytest.mark.parametrize("value", [True, 0, 1.5, -7, [], {}, [None], {"a": [1, {"b": None}]}])
def test_what_json_can_say_is_a_value(value: Any) -> None:
    assert decode_value(*encode_value(value)) == value


def test_equal_dicts_are_equal_bytes_whatever_their_order() -> None:
    assert encode_value({"a": 1, "b": 2}) == encode_value({"b": 2, "a": 1})


def test_what_looks_like_bytes_is_bytes() -> None:
    assert encode_value(bytearray(b"v")) == encode_value(b"v") == encode_value(memoryview(b"v"))


@pytest.mark.parametrize(
    "value",
    [None, object(), {1, 2}.__iter__(), {"a": object()}, "\ud800", ["\ud800"], print, 1j],
)
def test_what_cannot_be_a_value_is_a_bad_request(value: Any) -> None:
    with pytest.raises(everwrite.RequestError):
        encode_value(value)


@pytest.mark.parametrize(
    "odd",
    [
        {1},
        frozenset(),
        datetime(2007, 10, 14),
        date(2007, 10, 14),
        time(12),
        timedelta(1),
        UUID(int=7),
        Decimal("1.5"),
        Enum("Colour", "RED").RED,  # type: ignore[attr-defined]
    ],
)
def test_what_json_has_no_word_for_is_refused_wherever_it_is(odd: Any) -> None:
    for value in (odd, [odd], {"a": odd}, [1, {"a": ["b", (odd,)]}]):
        with pytest.raises(everwrite.RequestError, match=r"JSON has no .* Write "):
            encode_value(value)


def test_bytes_inside_a_list_are_refused_rather_than_become_text() -> None:
    with pytest.raises(everwrite.RequestError, match="JSON has no bytes"):
        encode_value([b"v"])


@pytest.mark.parametrize("value", [{1: "a"}, [{"a": {None: 1}}], {(1, 2): 3}])
def test_a_dict_whose_keys_are_no_text_is_refused_for_that(value: Any) -> None:
    with pytest.raises(everwrite.RequestError, match="keys are text") as failed:
        encode_value(value)
    assert "`" not in str(failed.value)


def test_tuples_come_back_as_lists_and_structs_as_dicts() -> None:
    assert decode_value(*encode_value((1, ("a", None)))) == [1, ["a", None]]
    assert decode_value(*encode_value([Item(2)])) == [{"count": 2}]


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"a": {"b": (math.nan,)}}])
def test_a_number_that_json_has_no_word_for_is_a_bad_request(value: Any) -> None:
    with pytest.raises(everwrite.RequestError, match="JSON"):
        encode_value(value)


def test_a_list_that_contains_itself_is_a_bad_request() -> None:
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(everwrite.RequestError, match=r"A list .*: it refers to itself"):
        encode_value(circle)


@pytest.mark.parametrize("value", [bytes(VALUE_BYTES_MAX + 1), "x" * (VALUE_BYTES_MAX + 1)])
def test_a_value_over_the_limit_is_too_large(value: bytes | str) -> None:
    with pytest.raises(everwrite.TooLarge):
        encode_value(value)


@pytest.mark.parametrize(
    ("kind", "raw"), [(KIND_TEXT, b"\xff"), (KIND_JSON, b"{"), (KIND_JSON, b"")]
)
def test_what_is_not_of_its_kind_comes_as_bytes(kind: int, raw: bytes) -> None:
    assert decode_value(kind, raw) == raw


def test_a_kind_of_a_newer_version_comes_as_bytes() -> None:
    assert decode_value(200, b"raw") == b"raw"


def test_found_is_true_if_there_is_a_value_even_a_false_one() -> None:
    assert found(0)
    assert found(b"")
    assert not found()


def test_several_siblings_are_a_conflict_without_a_merge() -> None:
    with pytest.raises(everwrite.Conflict, match="2 siblings"):
        _ = found([1], [2]).value


def test_a_merge_is_asked_only_where_there_is_something_to_merge() -> None:
    merge = everwrite.union_of_items

    assert found([2, 1], merge=merge).value == [2, 1]
    assert found([2], [1], merge=merge).value == [1, 2]
    assert found(merge=merge).value is None


def test_a_merge_cannot_change_what_was_found() -> None:
    def greedy(values: list[Any]) -> Any:
        return values.pop()

    answer = found(1, 2, merge=greedy)

    assert answer.value == 2
    assert answer.values == [1, 2]
