"""The laws of data types, over random concurrent histories and a plain model of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.data.laws import merge_is_a_join
from tests.core.types.replicas import COUNT, Replicas, shown

from everwrite.core.data import versions
from everwrite.core.types import operations, pieces
from everwrite.core.types.composed import Counter
from everwrite.core.types.composing import compose
from everwrite.core.types.operations import (
    Add,
    Assign,
    Disable,
    Enable,
    Exclude,
    Include,
    Operation,
    Remove,
)
from everwrite.core.types.pieces import Added, Element, Piece, Raised, Written

COUNTERS = [["n"], ["m", "n"]]
SETS = [["s"], ["m", "s"]]
REGISTERS = [["r"], ["m", "r"]]
FLAGS = [["f"], ["m", "f"]]

names = st.lists(st.sampled_from(["x", "y", b"\xff"]), min_size=1, max_size=2, unique=True)
replicas = st.integers(0, COUNT - 1)

an_operation: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Add, st.sampled_from(COUNTERS), st.integers(-3, 9)),
    st.builds(Include, st.sampled_from(SETS), names),
    st.builds(Exclude, st.sampled_from(SETS), names),
    st.builds(Assign, st.sampled_from(REGISTERS), st.sampled_from([b"a", b"b"])),
    st.builds(Enable, st.sampled_from(FLAGS)),
    st.builds(Disable, st.sampled_from(FLAGS)),
    st.builds(Remove, st.sampled_from([[], ["m"], ["n"], ["m", "s"]])),
)
walls = st.integers(0, 3)
"""What a coordinator's clock says: they hardly agree."""
a_put = st.tuples(st.just("do"), replicas, an_operation, walls)
a_sync = st.tuples(st.just("sync"), replicas, replicas)


@given(st.lists(st.one_of(a_put, a_sync), max_size=40))
@settings(max_examples=250, deadline=None)
def test_what_is_shown_is_what_the_history_comes_to(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    world = Replicas()
    for step in steps:
        if step[0] == "do":
            world.do(step[1], [step[2]], step[3])
        else:
            world.sync(step[1], step[2])
        for replica in range(COUNT):
            assert shown(world.records[replica]) == world.due(replica)

    merge_is_a_join(versions.merge, *world.records)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("do"), replicas, st.builds(Add, st.just(["n"]), st.integers(-3, 9))),
            st.tuples(st.just("do"), replicas, st.builds(Assign, st.just(["r"]), st.just(b"v"))),
            a_sync,
        ),
        max_size=40,
    ),
    st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_a_fold_changes_no_value_anywhere(steps: list[tuple], fold_over: int) -> None:  # type: ignore[type-arg]
    world = Replicas(fold_over)
    for step in steps:
        if step[0] == "do":
            world.do(step[1], [step[2]], 0)
        else:
            world.sync(step[1], step[2])
        for replica in range(COUNT):
            assert shown(world.records[replica]) == world.due(replica)
    for record in world.records:
        assert len(record.siblings) <= COUNT * (fold_over + 1) + COUNT
    merge_is_a_join(versions.merge, *world.records)


@given(
    st.lists(
        st.one_of(st.tuples(st.just("add"), replicas, st.integers(1, 9)), a_sync), max_size=40
    ),
    replicas,
    st.lists(a_sync, max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_a_remove_takes_all_that_it_has_seen_whatever_was_folded_meanwhile(
    steps: list[tuple],  # type: ignore[type-arg]
    remover: int,
    syncs: list[tuple],  # type: ignore[type-arg]
) -> None:
    """What it has not seen may go with it, where it was folded before it came together."""
    world = Replicas(2)
    for step in steps:
        if step[0] == "add":
            world.do(step[1], [Add(["n"], step[2])], 0)
        else:
            world.sync(step[1], step[2])
    unseen = {
        event.operation.amount  # type: ignore[union-attr]
        for number, event in enumerate(world.events)
        if number not in world.known[remover]
    }
    most = sum(
        event.operation.amount  # type: ignore[union-attr]
        for number, event in enumerate(world.events)
        if number not in world.known[remover]
    )
    world.do(remover, [Remove(["n"])], 0)
    for _, source, target in syncs:
        world.sync(source, target)
    for source in range(COUNT):
        world.sync(source, 0)
    found = shown(world.records[0])
    if found is None:
        return
    assert unseen
    number = found.fields["n"]  # type: ignore[union-attr]
    assert isinstance(number, Counter) and 0 < number.value <= most


adds_and_syncs = st.lists(
    st.one_of(st.tuples(st.just("add"), replicas, st.integers(1, 9)), a_sync), max_size=30
)


@given(
    adds_and_syncs,
    st.lists(replicas, min_size=2, max_size=COUNT, unique=True),
    adds_and_syncs,
    adds_and_syncs,
    st.integers(1, 3),
)
@settings(max_examples=400, deadline=None)
def test_an_increment_that_was_minted_twice_counts_once(
    before: list[tuple],  # type: ignore[type-arg]
    minters: list[int],
    soon: list[tuple],  # type: ignore[type-arg]
    later: list[tuple],  # type: ignore[type-arg]
    fold_over: int,
) -> None:
    """As long as none of its minters folds it that has not heard of the others' copies."""
    world = Replicas(fold_over)
    _go(world, before)
    world.puts.append([Add([], 1000)])
    world.written.append([])
    put = len(world.puts) - 1
    for minter in minters:
        world.carry_out(minter, put, 0)
    copies = [written[0] for _, written in world.written[put]]
    since = dict.fromkeys(minters, 1)
    for step in soon:
        if step[0] == "add" and step[1] in since:
            clock = world.records[step[1]].clock
            if not all(versions.covers(clock, each.actor, each.counter) for each in copies):
                if since[step[1]] == fold_over:
                    continue
                since[step[1]] += 1
        _go(world, [step])
    for source in minters:
        for target in minters:
            world.sync(source, target)
    _go(world, later)
    for source in range(COUNT):
        world.sync(source, 0)

    due = sum(put[0].amount for put in world.puts)  # type: ignore[union-attr]
    assert shown(world.records[0]) == Counter(due)


def _go(world: Replicas, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    for kind, one, other in steps:
        if kind == "sync":
            world.sync(one, other)
        else:
            world.do(one, [Add([], other)], 0)


# -- what is the same everywhere -------------------------------------------------------------------

paths = st.sampled_from([[], ["a"], ["a", "b"]])
a_piece = st.one_of(
    st.builds(
        Written,
        paths,
        st.tuples(st.integers(0, 2), st.sampled_from([b"5", b"x"])),
    ),
    st.builds(Added, paths, st.integers(-5, 5)),
    st.builds(Element, paths, st.sampled_from(["x", "y"])),
    st.builds(Raised, paths, st.none()),
)


@given(st.lists(st.tuples(a_piece, st.integers(0, 3)), max_size=8), st.randoms())
@settings(max_examples=150, deadline=None)
def test_what_is_shown_does_not_depend_on_the_order_of_the_pieces(
    given_: list[tuple[Piece, int]], random: object
) -> None:
    """However many types stand at one place."""
    rows = [
        ((3, pieces.encode(piece)), (b"a" * 16, at, time))
        for at, (piece, time) in enumerate(given_, 1)
    ]
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]

    one = compose([value for value, _ in rows], [mark for _, mark in rows])
    other = compose([value for value, _ in mixed], [mark for _, mark in mixed])

    assert one == other
    assert (one is None) == (not rows)


texts = st.text(max_size=5) | st.binary(max_size=5).map(operations.name_of)
any_path = st.lists(texts, max_size=8)
any_piece = st.one_of(
    st.builds(Added, any_path, st.integers(-(2**63), 2**63 - 1)),
    st.builds(Element, any_path, texts),
    st.builds(Raised, any_path, st.none()),
    st.builds(Written, any_path, st.tuples(st.integers(0, 2), st.binary())),
)


@given(any_piece, any_piece)
@settings(max_examples=150, deadline=None)
def test_equal_pieces_are_equal_bytes_and_no_others_are(one: Piece, other: Piece) -> None:
    assert pieces.decode(pieces.encode(one)) == one
    assert (pieces.encode(one) == pieces.encode(other)) == (one == other)


@given(st.lists(an_operation, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_operations_survive_their_bytes(asked: list[Operation]) -> None:
    assert operations.decode(operations.encode(asked)) == asked
