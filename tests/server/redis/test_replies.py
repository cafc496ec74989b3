"""Answers as RESP2 and RESP3 write them; hiredis, which clients use, reads them back."""

from __future__ import annotations

import doctest
from typing import Any

import hiredis
import pytest

from everwrite.server.redis import command, doubts, keys, replies, shown
from everwrite.server.redis.patterns import glob
from everwrite.server.redis.replies import (
    NO_LIST,
    OK,
    RESP2,
    RESP3,
    Problem,
    Simple,
    Unordered,
    Verbatim,
    encode,
)


@pytest.mark.parametrize("module", [command, doubts, keys, replies, shown])
def test_the_examples_in_the_docstrings_hold(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("answer", "in_2", "in_3"),
    [
        (OK, b"+OK\r\n", b"+OK\r\n"),
        (Simple("PONG"), b"+PONG\r\n", b"+PONG\r\n"),
        (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
        ("é", b"$2\r\n\xc3\xa9\r\n", b"$2\r\n\xc3\xa9\r\n"),
        (-7, b":-7\r\n", b":-7\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (NO_LIST, b"*-1\r\n", b"_\r\n"),
        ([1, [None]], b"*2\r\n:1\r\n*1\r\n$-1\r\n", b"*2\r\n:1\r\n*1\r\n_\r\n"),
        ({"a": {}}, b"*2\r\n$1\r\na\r\n*0\r\n", b"%1\r\n$1\r\na\r\n%0\r\n"),
        (Unordered([b"a"]), b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
        (Verbatim("hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
        (Problem("ERR a\r\nb"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
    ],
)
def test_each_kind_of_answer_has_its_form(answer: Any, in_2: bytes, in_3: bytes) -> None:
    for protocol, expected in ((RESP2, in_2), (RESP3, in_3)):
        data = encode(answer, protocol)
        assert data == expected
        reader = hiredis.Reader()
        reader.feed(data)
        assert reader.gets() is not False
        assert not reader.has_data()


@pytest.mark.parametrize(
    ("pattern", "fits", "not_these"),
    [
        (b"*", [b"", b"a\nb"], []),
        (b"h?llo", [b"hello"], [b"hllo", b"heello"]),
        (b"h[ae]llo", [b"hallo"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo"], [b"hello"]),
        (b"h[a-c]*", [b"hb", b"hcx"], [b"hd"]),
        (rb"a\*b", [b"a*b"], [b"axb"]),
        (b"a*b*c", [b"abc", b"axxbxxc"], [b"ab", b"acb"]),
        (b"**a", [b"a", b"ba"], [b"ab"]),
        (b"a.b", [b"a.b"], [b"axb"]),
        (b"a[", [], [b"a", b"a["]),
    ],
)
def test_patterns_fit_as_in_redis(
    pattern: bytes, fits: list[bytes], not_these: list[bytes]
) -> None:
    assert all(glob(pattern).fullmatch(each) for each in fits)
    assert not any(glob(pattern).fullmatch(each) for each in not_these)


def test_no_pattern_takes_long() -> None:
    assert not glob(b"*a" * 40 + b"b").fullmatch(b"a" * 1000)
