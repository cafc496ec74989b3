"""The on-disk layout: slices of the ring are ranges of keys, for every number of slices."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.data.keys import data_key, hash_of
from everwrite.core.errors import InvariantError
from everwrite.storage.keyspace import (
    DATA,
    HINT,
    NODE,
    hash_range,
    own_record,
    split_own_record,
    whole,
)

KEYS = st.builds(data_key, st.binary(min_size=1, max_size=8), st.binary(min_size=1, max_size=8))
COUNTS = st.integers(0, 16).map(lambda exponent: 1 << exponent)


@given(st.sampled_from([DATA, HINT]), KEYS, COUNTS)
def test_a_key_is_in_the_range_of_its_slice_and_in_no_other(
    prefix: bytes, key: bytes, count: int
) -> None:
    index = hash_of(key) * count >> 64

    holding = [
        other
        for other in {index - 1, index, index + 1, 0, count - 1}
        if 0 <= other < count
        and hash_range(prefix, other, count)[0]
        <= prefix + key
        < hash_range(prefix, other, count)[1]
    ]

    assert holding == [index]


@pytest.mark.parametrize("count", [1, 2, 256])
def test_slices_follow_each_other_without_gap_from_end_to_end(count: int) -> None:
    ranges = [hash_range(DATA, index, count) for index in range(count)]

    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert ranges[0][0] == DATA + bytes(8)
    assert ranges[-1][1] == whole(DATA)[1]


@pytest.mark.parametrize(("index", "count"), [(0, 3), (0, 0), (4, 4), (-1, 4)])
def test_slices_that_cannot_be_are_refused(index: int, count: int) -> None:
    with pytest.raises(InvariantError):
        hash_range(DATA, index, count)


def test_keyspaces_do_not_meet() -> None:
    spaces = sorted(whole(prefix) for prefix in (DATA, HINT, NODE))

    assert all(before[1] <= after[0] for before, after in pairwise(spaces))


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=40))
def test_own_record_comes_back_as_it_was(epoch: int, record: bytes) -> None:
    assert split_own_record(own_record(epoch, record)) == (epoch, record)
