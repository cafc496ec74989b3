"""Partitions as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.cli.splits import Split, parse_split
from everwrite.core.errors import ConfigError


def heard_by(split: Split, nodes: int) -> set[tuple[int, int]]:
    """Return the (sender, receiver) pairs that still pass, going by what each node blocks."""
    passing = {(a, b) for a in range(1, nodes + 1) for b in range(1, nodes + 1) if a != b}
    for node in range(1, nodes + 1):
        for direction, peers in split.blocked(node).items():
            for peer in peers:
                if direction in {"both", "in"}:
                    passing.discard((peer, node))
                if direction in {"both", "out"}:
                    passing.discard((node, peer))
    return passing


def test_two_groups_hear_nothing_of_each_other_and_all_of_themselves() -> None:
    split = parse_split("A,B|C,D,E", 5)

    assert heard_by(split, 5) == {
        *((a, b) for a in (1, 2) for b in (1, 2) if a != b),
        *((a, b) for a in (3, 4, 5) for b in (3, 4, 5) if a != b),
    }


def test_one_way_cuts_only_that_way() -> None:
    passing = heard_by(parse_split("A,B>C", 3), 3)

    assert (1, 3) not in passing
    assert (2, 3) not in passing
    assert {(3, 1), (3, 2), (1, 2), (2, 1)} <= passing


def test_a_one_way_cut_is_held_on_both_ends() -> None:
    split = parse_split("1>2", 2)

    assert split.blocked(1) == {"out": [2]}
    assert split.blocked(2) == {"in": [1]}


def test_nodes_that_are_not_named_keep_all_links() -> None:
    passing = heard_by(parse_split("1|2", 3), 3)

    assert {(1, 3), (3, 1), (2, 3), (3, 2)} <= passing


def test_several_cuts_add_up() -> None:
    assert parse_split("1|2;3>4", 4).cut == ((1, 2), (2, 1), (3, 4))


@pytest.mark.parametrize("text", ["1,2|3", "n1,n2|n3", "A,B|C", "a, b | c", " N1 ,2| C "])
def test_a_node_is_its_number_its_name_or_its_letter(text: str) -> None:
    assert parse_split(text, 3) == parse_split("1,2|3", 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2", "only one side"),
        ("", "names no node"),
        ("1|", "names no node"),
        ("1|1", "names node 1 twice"),
        ("1,A|2", "names node 1 twice"),
        ("1|9", "no node '9'"),
        ("0|1", "no node '0'"),
        ("x|1", "no node 'x'"),
        ("²|1", "no node '²'"),
        ("1>2>3", "more than one arrow"),
        ("1>2|3", "more than one arrow"),
    ],
)
def test_an_unclear_partition_is_refused_with_its_reason(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_split(text, 3)

    assert caught.value.hint


@given(st.integers(2, 9).flatmap(lambda n: st.tuples(st.just(n), st.permutations(range(1, n + 1)))))
def test_every_link_between_two_halves_is_cut_and_no_other(drawn: tuple[int, list[int]]) -> None:
    nodes, order = drawn
    left, right = order[: nodes // 2], order[nodes // 2 :]

    split = parse_split(f"{','.join(map(str, left))}|{','.join(map(str, right))}", nodes)

    cut = {(a, b) for a in left for b in right} | {(b, a) for a in left for b in right}
    assert set(split.cut) == cut
