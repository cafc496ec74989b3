"""Ready-made merges: the same value for every order of the siblings."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import everwrite
from everwrite import largest, newest, union_of_items, union_of_maps
from everwrite.client import resolvers

ITEMS = st.lists(st.integers(0, 5) | st.sampled_from(["a", "b"]) | st.just([1]))
COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))
TIMED = st.fixed_dictionaries({"at": st.integers(0, 3), "x": st.integers(0, 3)})


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(resolvers).failed == 0


@pytest.mark.parametrize(
    ("merge", "one"),
    [
        (union_of_items, ITEMS),
        (union_of_maps(largest), COUNTS),
        (largest, st.integers()),
        (newest("at"), TIMED),
    ],
)
@given(data=st.data())
def test_the_order_of_siblings_makes_no_difference(
    merge: Callable[[list[Any]], Any], one: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    values = data.draw(st.lists(one, min_size=2, max_size=5))

    assert merge(data.draw(st.permutations(values))) == merge(values)


@given(values=st.lists(ITEMS, min_size=2, max_size=4))
def test_a_union_has_every_item_once(values: list[list[Any]]) -> None:
    merged = union_of_items(values)

    assert all(item in merged for items in values for item in items)
    assert all(merged.count(item) == 1 for item in merged)


@given(values=st.lists(ITEMS, min_size=2, max_size=4))
def test_merging_a_merged_cart_again_adds_nothing(values: list[list[Any]]) -> None:
    merged = union_of_items(values)

    assert union_of_items([merged, *values]) == merged


def test_items_that_only_python_takes_for_equal_are_kept_apart() -> None:
    assert union_of_items([[1], [True]]) == [1, True]


@pytest.mark.parametrize(
    ("merge", "values"),
    [
        (union_of_items, [["a"], "b"]),
        (union_of_maps(largest), [{"a": 1}, ["a"]]),
        (union_of_maps(largest), [{"a": 1}, {"a": "x"}]),
        (largest, [1, "a"]),
        (newest("at"), [{"at": 1}, {}]),
        (newest("at"), [{"at": 1}, {"at": "noon"}]),
    ],
)
def test_siblings_of_the_wrong_shape_are_an_error_not_a_loss(
    merge: Callable[[list[Any]], Any], values: list[Any]
) -> None:
    with pytest.raises(everwrite.RequestError):
        merge(values)


def test_what_a_merge_is_made_of_is_checked_where_it_is_made() -> None:
    wrong: Any = 5

    with pytest.raises(everwrite.RequestError, match="5 is no field's name"):
        newest(wrong)
    with pytest.raises(everwrite.RequestError, match="merge=5 is not possible"):
        union_of_maps(wrong)
    with pytest.raises(everwrite.RequestError, match="newest is no merge: it makes one"):
        union_of_maps(newest)  # type: ignore[arg-type]


def test_a_dict_without_the_field_is_said_to_lack_it() -> None:
    with pytest.raises(everwrite.RequestError, match="one sibling is a dict without 'q'"):
        newest("q")([{"q": 1}, {"at": 1}])
    with pytest.raises(everwrite.RequestError, match=r"one sibling is a list\."):
        newest("q")([{"q": 1}, []])


def test_a_conflict_names_the_bucket_and_the_key() -> None:
    with everwrite.open(None, engine="memory") as db:
        carts = db.bucket("carts")
        carts.put("alice", 1)
        carts.put("alice", 2)

        says = "There are 2 siblings at carts/alice where one value was asked for"
        for ask in (lambda: carts.get("alice").value, lambda: carts.get("alice", r=1).value):
            with pytest.raises(everwrite.Conflict, match=says):
                ask()


async def _late(values: list[Any]) -> Any:
    return values[0]


def _hidden(values: list[Any]) -> Any:
    return _late(values)


@pytest.mark.parametrize(
    ("merge", "says"),
    [
        (5, "merge=5 is not possible"),
        (
            newest,
            r"newest is no merge: it makes one\. Say of what: merge=everwrite\.newest\('at'\)",
        ),
        (union_of_maps, "union_of_maps is no merge"),
        (_late, "The merge is an async function"),
    ],
)
def test_what_is_no_merge_is_refused_when_it_is_given(merge: Any, says: str) -> None:
    with (
        everwrite.open(None, engine="memory") as db,
        pytest.raises(everwrite.RequestError, match=says),
    ):
        db.bucket("carts", merge=merge)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("merge", "says"),
    [
        (lambda values: lambda: values, "made a function, and no value"),
        (_hidden, "The merge is an async function"),
    ],
)
def test_what_makes_no_value_is_told_where_it_is_asked_for_one(merge: Any, says: str) -> None:
    with everwrite.open(None, engine="memory") as db:
        carts = db.bucket("carts", merge=merge)
        carts.put("alice", 1)
        carts.put("alice", 2)

        with pytest.raises(everwrite.RequestError, match=says):
            _ = carts.get("alice").value
        with pytest.raises(everwrite.RequestError, match=says):
            carts.update("alice", str)
