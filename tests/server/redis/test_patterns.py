"""Patterns fit what they fit in Redis, and none takes long or much room."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.data.keys import KEY_BYTES_MAX
from everwrite.server.redis import patterns
from everwrite.server.redis.command import REST
from everwrite.server.redis.patterns import NAME_WORK, REST_WORK, Part, fitting, glob
from everwrite.server.redis.replies import Problem


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(patterns).failed == 0


@given(st.sampled_from(["[^a-c]", "[^]", "[a-c^]", r"[^\]x]", "[c-a]"]), st.integers(0, 255))
def test_classes_fit_what_they_name(pattern: str, char: int) -> None:
    among = {"[^a-c]": b"abc", "[^]": b"", "[a-c^]": b"abc^", r"[^\]x]": b"]x", "[c-a]": b"abc"}
    fits = char in among[pattern]
    assert bool(glob(pattern.encode()).fullmatch(bytes([char]))) == (
        not fits if pattern.startswith("[^") else fits
    )


def test_a_pattern_is_as_long_as_a_key_at_most() -> None:
    longest = b"[^a]" * (KEY_BYTES_MAX // 4)
    assert glob(longest).fullmatch(b"b" * (KEY_BYTES_MAX // 4))
    with pytest.raises(Problem, match="at most 1024 bytes"):
        glob(longest + b"a")


def plainly(pattern: bytes, name: bytes) -> bool:
    """Fit a pattern without escapes, and with classes of one letter, by trying everything."""
    if not pattern:
        return not name
    if pattern[:1] == b"*":
        return any(plainly(pattern[1:], name[at:]) for at in range(len(name) + 1))
    if not name:
        return False
    if pattern[:1] == b"[":
        inside, _, rest = pattern[1:].partition(b"]")
        fits = name[:1] != inside[1:] if inside[:1] == b"^" else name[:1] == inside
        return fits and plainly(rest, name[1:])
    return pattern[:1] in (b"?", name[:1]) and plainly(pattern[1:], name[1:])


PLACES = st.sampled_from([b"a", b"b", b"\n", b"?", b"[a]", b"[^b]", b"*", b"*"])
NAMES = st.lists(st.sampled_from([b"a", b"b", b"\n"]), max_size=12).map(b"".join)


@given(st.lists(PLACES, max_size=8).map(b"".join), NAMES)
def test_a_pattern_fits_what_trying_everything_finds(pattern: bytes, name: bytes) -> None:
    assert glob(pattern).fullmatch(name) == plainly(pattern, name)


@given(
    st.lists(st.sampled_from([b"a", b"?", b"[a]", b"[^b]"]), min_size=1, max_size=6),
    st.lists(st.sampled_from([b"a", b"b", b"aaaa", b"b" * 9]), max_size=30).map(b"".join),
    st.integers(1, 6),
)
def test_a_long_part_is_found_where_a_regular_expression_finds_it(
    places: list[bytes], name: bytes, times: int
) -> None:
    part = Part()
    for place in places * times:
        part.add(b"." if place == b"?" else place, place if place == b"a" else b"")
    end = len(name)
    assert part._find_long(name, 0, end) == part._find_short(name, 0, end)
    assert part.find(name, 1, end) == part._find_short(name, 1, end)


class Counted(bytes):
    """A name that counts how often one of its bytes is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        self.looks += 1
        return super().__getitem__(at)


def test_a_long_part_looks_at_each_byte_of_a_name_once() -> None:
    name = Counted(b"a" * 1000 + b"c")
    assert not glob(b"*" + b"?" * 400 + b"b*").fullmatch(name)
    assert 500 < name.looks <= len(name)


def test_many_names_are_matched_with_rests_between() -> None:
    names = [b"%01000d" % number for number in range(500)]
    found: list[bytes] = []
    steps = fitting(glob(b"*7"), names)

    def rests() -> Iterator[Any]:
        found.extend((yield from steps))

    assert list(rests()) == [REST] * (500 * (1000 + NAME_WORK) // REST_WORK)
    assert found == names[7::10]
