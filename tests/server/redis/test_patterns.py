"""Patterns fit what they fit in Redis, and none takes long or much room."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.data.keys import KEY_BYTES_MAX
from everwrite.server.redis import keys
from everwrite.server.redis.keys import glob
from everwrite.server.redis.replies import Problem


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(keys).failed == 0


@given(st.sampled_from(["[^a-c]", "[^]", "[a-c^]", r"[^\]x]", "[c-a]"]), st.integers(0, 255))
def test_classes_fit_what_they_name(pattern: str, char: int) -> None:
    among = {"[^a-c]": b"abc", "[^]": b"", "[a-c^]": b"abc^", r"[^\]x]": b"]x", "[c-a]": b"abc"}
    fits = char in among[pattern]
    assert bool(glob(pattern.encode()).fullmatch(bytes([char]))) == (
        not fits if pattern.startswith("[^") else fits
    )


def test_a_pattern_is_as_long_as_a_key_at_most_and_its_expression_not_far_longer() -> None:
    longest = b"[^a]" * (KEY_BYTES_MAX // 4)
    assert len(glob(longest).pattern) < 4 * len(longest)
    with pytest.raises(Problem, match="at most 1024 bytes"):
        glob(longest + b"a")
