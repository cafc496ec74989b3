"""Bytes become commands, however they are cut, and never more than was allowed."""

from __future__ import annotations

import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.server.redis import requests
from everwrite.server.redis.requests import (
    COMMAND_ARGS_MAX,
    DROPPED_MAX,
    INLINE_BYTES_MAX,
    Garbled,
    Requests,
    TooLong,
)


def packed(*args: bytes) -> bytes:
    bulks = b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)
    return b"*%d\r\n%b" % (len(args), bulks)


def read(reader: Requests, *chunks: bytes) -> list[list[bytes]]:
    """Return the commands in these chunks, which come one after the other."""
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while (command := reader.next()) is not None:
            found.append(command)
    return found


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(requests).failed == 0


words = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\r\n", b"*3\r\n$3", b"$5\r\n", b"x" * 1023, b"x" * 1024, b"x" * 5000]),
)
commands = st.lists(st.lists(words, min_size=1, max_size=12), max_size=8)


@given(commands, st.lists(st.integers(0, 20_000), max_size=6))
def test_what_was_packed_is_read_however_it_is_cut(
    sent: list[list[bytes]], cuts: list[int]
) -> None:
    data = b"".join(packed(*args) for args in sent)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(places)]
    reader = Requests()

    assert read(reader, *chunks) == sent
    assert not reader.inside


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_refused(data: bytes) -> None:
    refusal = "ERR "
    try:
        assert all(read(Requests(), data[: len(data) // 2], data[len(data) // 2 :]))
    except Garbled as why:
        refusal = str(why)
    assert refusal.startswith("ERR ")


def test_inline_commands_and_arrays_may_follow_each_other() -> None:
    data = b"PING\r\n" + packed(b"GET", b"a") + b'set "a b" 1\n\r\n' + packed(b"PING")

    assert read(Requests(), data) == [[b"PING"], [b"GET", b"a"], [b"set", b"a b", b"1"], [b"PING"]]
    assert read(Requests(), *(bytes([byte]) for byte in data)) == read(Requests(), data)


def test_empty_arrays_say_nothing() -> None:
    assert read(Requests(), b"*0\r\n*-1\r\n" + packed(b"PING")) == [[b"PING"]]


@pytest.mark.parametrize(
    "data",
    [
        b"*1000000000\r\n",
        b"*%d\r\n" % (COMMAND_ARGS_MAX + 1),
        b"*1_0\r\n",
        b"* 1\r\n",
        b"*-x\r\n",
        b"*" + b"1" * 40,
        b"*1\r\n+OK\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$" + b"1" * 40,
        b"*1\r\n$%d\r\n" % (DROPPED_MAX + 1),
        b"*1\r\n$2\r\nPING\r\n",
        b"x" * (INLINE_BYTES_MAX + 1),
        b'set "a\r\n',
        b'set "a"b\r\n',
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_is_no_command_is_refused_before_it_takes_room(data: bytes) -> None:
    with pytest.raises(Garbled):
        read(Requests(), data)


def test_an_argument_that_is_too_long_is_dropped_as_it_comes_and_the_next_command_is_read() -> None:
    reader, size = Requests(), VALUE_BYTES_MAX + 1
    reader.feed(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$%d\r\n" % size)
    for _ in range(size // 1000):
        assert reader.next() is None
        reader.feed(b"x" * 1000)
        assert reader.kept < 5000
    reader.feed(b"x" * (size % 1000) + b"\r\n" + packed(b"PING"))

    with pytest.raises(TooLong, match=f"{size} bytes"):
        reader.next()
    assert reader.next() == [b"PING"]


def test_the_longest_value_is_taken() -> None:
    value = b"x" * VALUE_BYTES_MAX

    assert read(Requests(), packed(b"SET", b"a", value)) == [[b"SET", b"a", value]]


def test_a_command_is_refused_once_it_holds_too_much() -> None:
    reader = Requests()
    one = b"$%d\r\n%b\r\n" % (VALUE_BYTES_MAX, b"x" * VALUE_BYTES_MAX)
    reader.feed(b"*100\r\n")
    with pytest.raises(Garbled, match="bytes"):  # noqa: PT012 - it is some chunk
        for _ in range(20):
            reader.next()
            reader.feed(one)


def test_a_stranger_may_send_little() -> None:
    for data in (packed(*[b"x"] * 11), packed(b"AUTH", b"x" * 20_000)):
        reader = Requests()
        reader.args_max, reader.bulk_max = 10, 16 << 10
        reader.feed(data)
        with pytest.raises(Garbled):
            reader.next()


def test_a_chunk_of_which_all_was_taken_is_not_kept() -> None:
    reader = Requests()
    assert len(read(reader, packed(b"SET", b"a", b"x" * 100_000))) == 1
    assert reader.kept == 0
    assert len(read(reader, packed(b"PING") * 50)) == 50
    assert reader.kept == 0


def test_words_are_counted_with_what_they_cost_beside_their_bytes() -> None:
    reader = Requests()
    assert read(reader, b"*20001\r\n" + b"$1\r\na\r\n" * 20_000) == []
    assert reader.kept > 20_000 * 64
