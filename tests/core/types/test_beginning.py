"""What is carried out without the tree comes to what one by one would come to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.types.key import MINUTE, NOW, A, B, Key, plain

from everwrite.core.data import versions
from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import Record, Version
from everwrite.core.errors import ProtocolError, WrongType
from everwrite.core.types import changing, pieces
from everwrite.core.types.beginning import Begun, begin
from everwrite.core.types.changing import Writer, change
from everwrite.core.types.operations import Add, Assign, Include, Operation, Remove
from everwrite.core.types.pieces import Added, Element, Raised, Written

paths = st.sampled_from([[], ["f"], ["f", "g"], [b"\xff"]])
a_piece = st.one_of(
    st.builds(Written, paths, st.sampled_from([(0, b"7"), (0, b"tea")])),
    st.builds(Added, paths, st.integers(-2, 2)),
    st.builds(Element, paths, st.sampled_from(["x", b"\xff"])),
    st.builds(Raised, paths, st.none()),
).map(lambda piece: (pieces.encode(piece), KIND_PIECE))
a_value = st.one_of(a_piece, a_piece, st.sampled_from([(b"8", 0), (b"jam", 0), (None, 0)]))
ends = st.sampled_from([0, 0, NOW - 1, NOW + MINUTE])


def _record(values: list[tuple[tuple[bytes | None, int], int]]) -> Record:
    siblings = [
        Version(B, counter, value, NOW + counter, b"op%d" % counter, kind, expires)
        for counter, ((value, kind), expires) in enumerate(values, 1)
    ]
    return Record({B: len(siblings)} if siblings else {}, siblings)


@given(
    st.lists(st.tuples(a_value, ends), max_size=4),
    st.booleans(),
    st.sampled_from(
        [
            [Add([], 1)],
            [Assign(["f"], b"v"), Assign(["g"], b"w", 1)],
            [Assign(["f"], b"v"), Assign(["f"], b"w")],
            [Assign(["f"], b"v"), Assign(["f", "g"], b"w")],
            [Assign(["f"], b"v"), Include(["f"], ["x"])],
            [Assign([], b"v")],
            [Remove([])],
        ]
    ),
    st.sampled_from([0, MINUTE]),
)
@settings(max_examples=300, deadline=None)
def test_it_comes_to_what_one_by_one_comes_to(
    values: list[tuple[tuple[bytes | None, int], int]],
    removes: bool,
    then: list[Operation],
    ttl_ms: int,
) -> None:
    record, operations = _record(values), [Remove([])] * removes + then
    writer = Writer(A, b"op", NOW, ttl_ms)

    def outcome() -> object:
        try:
            return change(record, operations, writer)
        except WrongType as error:
            return str(error)

    nothing = Begun([], emptied=False, gone=set(), fields=[])
    quick = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changing, "begin", lambda *_: nothing)
        assert quick == outcome()


def test_no_piece_of_a_hash_is_read_to_remove_it(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key()
    key.do(*(Assign([f"field{number}"], b"v") for number in range(50)))
    monkeypatch.setattr(changing, "piece_of", None)

    done = key.do(Remove([]), Assign(["field7"], b"w"))

    assert done.results == [1, 1]
    assert len(key.record.siblings) == 1


def test_a_clash_is_looked_at() -> None:
    beside = versions.merge(Key().do(Add([], 1)).record, plain(b"tea"))

    assert not begin(beside, [Remove([])], NOW).emptied
    assert Key(beside).do(Remove([])).clashes == 1


def test_a_piece_that_cannot_be_read_is_not_removed_with_the_others() -> None:
    record = Record({B: 1}, [Version(B, 1, b"", NOW, b"op", KIND_PIECE)])

    with pytest.raises(ProtocolError, match="no piece of a data type"):
        change(record, [Remove([])], Writer(A, b"op", NOW))
